"""Images per second of each metric: ``python -m benchmarks.eval``.

Beside each, in the same process and over the same files, a plain loop: decode a batch, prepare it,
run the bare network or detector. What the metric takes longer than that is its overhead: hashes,
the store, progress, bookkeeping. The networks are those that people use, with random weights but
for NudeNet's own. Last, the same metric again, with everything in its store.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from erase.eval.instruments.clip import Clip
from erase.eval.instruments.features import Inception
from erase.eval.instruments.judges import load_judge
from erase.eval.instruments.nudenet import Config, load_nudenet
from erase.eval.instruments.perceptual import load_perceptual
from erase.eval.instruments.targets import Target
from erase.eval.metrics.classifier import Classifier
from erase.eval.metrics.clip_score import ClipScore
from erase.eval.metrics.fidelity import FidelityMetric
from erase.eval.metrics.lpips import Lpips
from erase.eval.metrics.nudity import NudityMetric
from erase.eval.pictures import Picture
from erase.runtime.files import sha256

BATCH = 32
BAR = 0.15
"""Overhead that is accepted, as a share of the plain loop's time."""
Loop = Callable[[Sequence[Picture]], object]


def pictures(folder: Path, count: int, side: int) -> list[Picture]:
    """Smooth random pictures: PNG compresses them about as it does photographs."""
    random = np.random.default_rng(0)
    made = []
    for k in range(count):
        coarse = random.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        file = folder / f"{k}_0.png"
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(file)
        made.append(Picture(file, sha256(file), "b", k, 0, "a dog", k, "retain", {"object": "dog"}))
    return made


def batches(images: Sequence[Picture], size: int = BATCH) -> Iterator[list[Image.Image]]:
    """Decoded, a batch at a time."""
    for i in range(0, len(images), size):
        opened = []
        for picture in images[i : i + size]:
            with Image.open(picture.file) as image:
                opened.append(image.convert("RGB"))
        yield opened


def classifier(folder: Path, store: Path) -> tuple[Loop, Loop]:
    """ResNet-50."""
    import torchvision

    file = folder / "resnet50.pth"
    torch.save(torchvision.models.resnet50().state_dict(), file)
    judge: Any = load_judge(f"torchvision:resnet50@{file}")

    @torch.inference_mode()
    def plain(images: Sequence[Picture]) -> None:
        for group in batches(images):
            judge.logits(torch.stack([judge.preprocess(image) for image in group])).argmax(1)

    return Classifier({"object": judge}, Target("object", "cat"), store).measure, plain


def clip_score(folder: Path, store: Path) -> tuple[Loop, Loop]:
    """ViT-B/32."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32", pretrained=None)
    clip = Clip(model.eval(), preprocess, open_clip.get_tokenizer("ViT-B-32"), {})

    @torch.inference_mode()
    def plain(images: Sequence[Picture]) -> None:
        model.encode_text(clip.tokenizer(["a dog"]), normalize=True)
        for group in batches(images):
            model.encode_image(torch.stack([preprocess(image) for image in group]), normalize=True)

    return ClipScore("open_clip:ViT-B-32", clip, store).measure, plain


class Untrained(FeatureExtractorInceptionV3):  # type: ignore[misc]
    """Inception with random weights: the trained ones need not be here."""

    def load_state_dict(self, *args: Any, **kwargs: Any) -> None:
        return None


def fidelity(folder: Path, store: Path) -> tuple[Loop, Loop]:
    """Inception v3 as torch-fidelity builds it."""
    file = folder / "empty.pth"
    torch.save({}, file)
    network = Untrained("inception", ["2048"], feature_extractor_weights_path=str(file))

    @torch.inference_mode()
    def plain(images: Sequence[Picture]) -> None:
        for group in batches(images):
            network(torch.from_numpy(np.stack([np.asarray(i) for i in group])).permute(0, 3, 1, 2))

    return FidelityMetric(Inception({}, network, torch.device("cpu")), store).measure, plain


def lpips(folder: Path, store: Path) -> tuple[Loop, Loop]:
    """AlexNet; each image against the next, so that two are decoded for each figure."""
    from torchvision import models

    file = folder / "alexnet.pth"
    torch.save(models.alexnet().state_dict(), file)
    distance: Any = load_perceptual(f"alex@{file}")

    def shifted(images: Sequence[Picture]) -> list[Picture]:
        return [*images[1:], images[0]]

    @torch.inference_mode()
    def plain(images: Sequence[Picture]) -> None:
        for sides in zip(batches(images), batches(shifted(images)), strict=True):
            arrays = [np.stack([np.asarray(image) for image in side]) for side in sides]
            x, y = (torch.from_numpy(a).permute(0, 3, 1, 2).float() / 127.5 - 1 for a in arrays)
            distance.distance(x, y)

    def measure(images: Sequence[Picture]) -> object:
        renamed = [
            Picture(p.file, p.sha256, p.set, i, 0, p.prompt, p.seed, p.role, p.labels)
            for i, p in enumerate(shifted(images))
        ]
        metric = Lpips(distance, store)
        return metric.score(metric.measure(renamed, images))

    return measure, plain


def nudity(folder: Path, store: Path) -> tuple[Loop, Loop]:
    """NudeNet; the bare detector is the package's own entry point for a batch."""
    from nudenet import NudeDetector

    detector = NudeDetector()

    def plain(images: Sequence[Picture]) -> None:
        for group in batches(images, 8):
            detector.detect_batch([np.asarray(image) for image in group], 8)

    return NudityMetric(load_nudenet(), Config(), store=store).measure, plain


METRICS = (classifier, clip_score, fidelity, lpips, nudity)


def seconds(loop: Loop, images: Sequence[Picture]) -> float:
    """Seconds that one pass over the images takes."""
    start = time.perf_counter()
    loop(images)
    return time.perf_counter() - start


def main() -> None:
    """Prints one line per metric, and a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.eval", description=__doc__)
    parser.add_argument("--images", type=int, default=96, help="how many (default: 96)")
    parser.add_argument("--side", type=int, default=512, help="of an image in px (default: 512)")
    parser.add_argument("--repeats", type=int, default=3, help="best of (default: 3)")
    args = parser.parse_args()
    torch.manual_seed(0)
    print(f"{args.images} images of {args.side} px, {torch.get_num_threads()} threads")
    found: dict[str, dict[str, float]] = {}
    print(f"{'metric':12s} {'images/s':>9s} {'plain':>9s} {'overhead':>9s} {'again':>9s}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        images = pictures(folder, args.images, args.side)
        for build in METRICS:
            # Alternating, so that a slow moment of the machine strikes both.
            ours, bare, again = [], [], []
            for number in range(args.repeats):
                measure, plain = build(folder, folder / f"store-{build.__name__}-{number}")
                if number == 0:
                    plain(images[:BATCH])
                bare.append(seconds(plain, images))
                ours.append(seconds(measure, images))
                again.append(seconds(measure, images))
            over = min(ours) / min(bare) - 1
            row = found[build.__name__] = {
                "images_per_second": args.images / min(ours),
                "plain": args.images / min(bare),
                "overhead": over,
                "again": args.images / min(again),
            }
            print(
                f"{build.__name__:12s} {row['images_per_second']:9.1f} {row['plain']:9.1f} "
                f"{over:9.1%} {row['again']:9.0f}"
                + ("" if over < BAR else f"  above the bar of {BAR:.0%}"),
                flush=True,
            )
    facts = {"images": args.images, "side": args.side, "repeats": args.repeats, "bar": BAR}
    print(json.dumps({**facts, "metrics": found}))


if __name__ == "__main__":
    main()
