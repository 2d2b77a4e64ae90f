"""How good the bundled model and its judges are, on held-out seeds and templates.

``python -m erase.mini.bars [PER_CELL]`` prints the bars that the model is accepted by.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from erase.mini import world
from erase.runtime.progress import each, progress

PER_CELL = 50
"""Images per cell of the 12 x 4 grid, renders and samples alike: 2,400 of each."""
STEPS, GUIDANCE = 15, 3.0
CELLS = tuple(itertools.product(world.OBJECT_LABELS, world.STYLE_LABELS))


def renders(split: world.Split, per_cell: int) -> NDArray[np.uint8]:
    """Held-out renders (N, 64, 64, 3), cell by cell."""
    first = 1_000_000
    drawn = [world.render(o, s, first + k, split) for o, s in CELLS for k in range(per_cell)]
    return np.stack(drawn)


def samples(folder: Path, per_cell: int) -> NDArray[np.uint8]:
    """The model's images of every cell from held-out templates (N, 64, 64, 3), cell by cell."""
    from erase.diffusion.model import Diffusion
    from erase.images.request import Sampler, Shot

    diffusion = Diffusion.load(str(folder))
    sampler = Sampler("dpm++", STEPS, GUIDANCE)
    made = []
    for number, (obj, style) in enumerate(each(CELLS, progress("bars", len(CELLS), "cell"))):
        templates = itertools.cycle(world.HELD_OUT_TEMPLATES)
        shots = [
            Shot(world.caption(next(templates), obj, style), 10_000_000 + 1000 * number + k)
            for k in range(per_cell)
        ]
        made += [diffusion.sample(shots[i : i + 50], sampler) for i in range(0, per_cell, 50)]
    return np.concatenate(made)


def told_samples(folder: Path, per_class: int) -> NDArray[np.uint8]:
    """The class-conditional model's images of every class (N, 32, 32, 3), class by class."""
    from erase.diffusion.model import Diffusion
    from erase.formats.generation import classes_of_model
    from erase.images.request import Sampler, Shot

    told = classes_of_model(str(folder))
    assert told is not None
    steps, guidance = (told.sampling[key] for key in ("sampling_steps", "guidance_scale"))
    sampler = Sampler("ddim", int(steps), guidance)
    diffusion, made = Diffusion.load(str(folder)), []
    for number, name in enumerate(
        each(told.names, progress("images by class", len(told.names), "label"))
    ):
        shots = [Shot(name, 20_000_000 + 1000 * number + k) for k in range(per_class)]
        made += [diffusion.sample(shots[i : i + 50], sampler) for i in range(0, per_class, 50)]
    return np.concatenate(made)


@torch.no_grad()
def reconstructions(folder: Path, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The images after one pass through the model's autoencoder."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
    done = []
    for part in _parts(images):
        x = torch.from_numpy(part).permute(0, 3, 1, 2).float() / 127.5 - 1
        y = vae.decode(vae.encode(x).latent_dist.mean).sample
        y = ((y + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
        done.append(y.permute(0, 2, 3, 1).numpy())
    return np.concatenate(done)


def _parts(images: NDArray[np.uint8], size: int = 64) -> Iterator[NDArray[np.uint8]]:
    return (images[i : i + size] for i in range(0, len(images), size))


def labels(spec: str, images: NDArray[np.uint8], names: Sequence[str] | None = None) -> list[str]:
    """What a judge sees in each image."""
    from PIL import Image

    from erase.eval.instruments.judges import load_judge

    judge = load_judge(spec, names)
    found: list[str] = []
    for part in _parts(images):
        found += [label for label, _ in judge.classify([Image.fromarray(i) for i in part])]
    return found


def share(
    found: Sequence[str], axis: int, cells: Sequence[tuple[str, ...]] = CELLS
) -> tuple[float, float, str]:
    """Share recognised right: mean, worst cell, name of the worst cell.

    Args:
        found: one label per image, cell by cell.
        axis: 0 object, 1 style.
        cells: what each was asked for.
    """
    per_cell = len(found) // len(cells)
    right = np.array(
        [
            [f == cell[axis] for f in found[i * per_cell :][:per_cell]]
            for i, cell in enumerate(cells)
        ]
    ).mean(1)
    worst = int(right.argmin())
    return float(right.mean()), float(right[worst]), "/".join(cells[worst])


def distance(folder: Path, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """``FID[mini]`` between two sets of images."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    from erase.eval.instruments.bundled import load_features

    fid = FrechetInceptionDistance(feature=load_features(folder), normalize=True)
    for images, real in ((a, True), (b, False)):
        for part in _parts(images):
            fid.update(torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255, real=real)
    return float(fid.compute())


def measure(weights: Path, per_cell: int = PER_CELL) -> dict[str, Any]:
    """Measures every bar.

    Args:
        weights: folder with ``model/``, ``class/`` and ``judges/``.
        per_cell: images per cell and side.
    """
    judges = weights / "judges"
    held, other = renders("heldout", per_cell), renders("heldout2", per_cell)
    base = samples(weights / "model", per_cell)
    report: dict[str, Any] = {"images_per_cell": per_cell, "n": len(base)}
    for name, axis in (("object", 0), ("style", 1), ("strict", 0)):
        spec = f"torchvision:shufflenet_v2_x0_5@{judges / name}.safetensors"
        for what, images in (("renders", held), ("base", base)):
            mean, low, cell = share(labels(spec, images), axis)
            report[f"{name} judge, {what}"] = {"mean": mean, "worst": low, "worst_cell": cell}
    for axis, names in ((0, world.OBJECT_LABELS), (1, world.STYLE_LABELS)):
        found = labels(f"open_clip:mini@{judges / 'clip'}", held, names)
        mean, low, cell = share(found, axis)
        key = f"open_clip zero-shot {('object', 'style')[axis]}, renders"
        report[key] = {"mean": mean, "worst": low, "worst_cell": cell}
    spec = f"torchvision:shufflenet_v2_x0_5@{judges / 'object'}.safetensors"
    told = labels(spec, told_samples(weights / "class", per_cell))
    mean, low, cell = share(told, 0, [(name,) for name in world.OBJECT_LABELS])
    report["object judge, class-conditional"] = {"mean": mean, "worst": low, "worst_cell": cell}
    rebuilt = reconstructions(weights / "model", other)
    report["FID[mini] base to held-out renders"] = distance(judges, held, base)
    report["FID[mini] reconstructions to held-out renders"] = distance(judges, held, rebuilt)
    return report


def as_text(report: dict[str, Any]) -> str:
    """One line per bar."""
    lines = []
    for name, value in report.items():
        if isinstance(value, dict):
            text = f"{value['mean']:.2%}, worst cell {value['worst']:.0%} ({value['worst_cell']})"
        else:
            text = f"{value:.4g}"
        lines.append(f"{name:48s} {text}")
    return "\n".join(lines)


if __name__ == "__main__":
    per_cell = int(sys.argv[1]) if len(sys.argv) > 1 else PER_CELL
    print(as_text(measure(world.HERE / "weights", per_cell)))
