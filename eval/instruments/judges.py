"""Judges: classifiers that say what an image shows, opened by one spec string.

    torchvision:ARCH[@FILE]     timm:NAME[@FILE]     open_clip:NAME[@FILE | @FOLDER | @TAG]

Without ``@`` the library downloads its own weights. A file is ``.safetensors``, or ``.pth`` with
plain tensors only. A safetensors file may carry metadata ``judge``: JSON with ``arch``,
``labels``, ``size`` (px), ``mean`` and ``std`` (of RGB in [0, 1]). Otherwise the outputs are named
by ``FILE.labels.txt``, one label a line; without it they are ImageNet's classes, or the images' own
labels in alphabetical order, as torchvision's ImageFolder numbers them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from erase.eval.instruments.clip import check_clip, load_clip
from erase.eval.instruments.known import imagenet, timm_labels, timm_library, torchvision_weights
from erase.eval.instruments.spec import fetching, needs_fetching, parse_spec
from erase.eval.instruments.weights import Card, read_card, read_labels, read_weights
from erase.runtime.errors import UserError, clipped
from erase.runtime.files import bundled, sha256

Pixels = Image.Image | NDArray[np.uint8]
"""An RGB image: Pillow's, or uint8 (H, W, 3)."""
Answer = tuple[str, float]
"""A label and its confidence in [0, 1]."""

TEMPLATES = (
    "{}",
    "a photo of a {}",
    "a picture of a {}",
    "an image of a {}",
    "a drawing of a {}",
)
"""Prompts whose mean embedding stands for a label in zero-shot classification."""


class Judge(Protocol):
    """Says which of its labels an image shows best.

    Attributes:
        labels: every answer it can give.
        spec: the string that opens it again.
        facts: what else its answers depend on: hashes, preprocessing. Cached with, and printed.
    """

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def spec(self) -> str: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...

    def classify(self, images: Sequence[Pixels]) -> list[Answer]:
        """The best label of each image."""
        ...


@dataclass(frozen=True)
class NetworkJudge:
    """A judge made of a network.

    Attributes:
        spec, labels, facts: see ``Judge``.
        preprocess: Pillow RGB image to a float tensor (3, H, W).
        logits: (B, 3, H, W) to (B, labels).
        device: where the network lies.
        batch: images at a time, >= 1.
    """

    spec: str
    labels: tuple[str, ...]
    facts: Mapping[str, Any]
    preprocess: Callable[[Image.Image], Tensor]
    logits: Callable[[Tensor], Tensor]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch: int = 32

    @torch.inference_mode()
    def classify(self, images: Sequence[Pixels]) -> list[Answer]:
        """The label of the largest softmax probability, with that probability."""
        answers: list[Answer] = []
        for i in range(0, len(images), self.batch):
            x = torch.stack([self.preprocess(to_pil(im)) for im in images[i : i + self.batch]])
            best = self.logits(x.to(self.device)).float().softmax(1).max(1)
            answers += [
                (self.labels[index], confidence)
                for confidence, index in zip(
                    best.values.tolist(), best.indices.tolist(), strict=True
                )
            ]
        return answers


def under_names(judge: Judge, names: Iterable[str]) -> Judge:
    """The judge under names that its labels have elsewhere, as DiT's ``maillot, tank suit`` and
    ``crane (134)``, a name that two labels share; what it does not know stays unknown."""
    own, known = list(judge.labels), set(judge.labels)
    for name in (n for n in names if n not in known):
        at = re.fullmatch(r"(.+) \((\d+)\)", name)
        number = int(at[2]) if at else -1
        if at and number < len(own) and judge.labels[number].startswith(at[1]):
            own[number] = name
        elif (plain := name.replace(",", "")) in known:
            own[judge.labels.index(plain)] = name
    if tuple(own) == judge.labels:
        return judge
    changed = {a: b for a, b in zip(judge.labels, own, strict=True) if a != b}
    facts = {**judge.facts, "renamed": changed}
    return cast(Judge, replace(cast(Any, judge), labels=tuple(own), facts=facts))


def to_pil(image: Pixels) -> Image.Image:
    """An RGB Pillow image of either form."""
    return image.convert("RGB") if isinstance(image, Image.Image) else Image.fromarray(image)


def to_words(label: str) -> str:
    """``tropical-fish`` and ``tropical_fish`` as words; what has spaces is words already."""
    return label if " " in label else label.replace("-", " ").replace("_", " ")


def load_judge(
    spec: str,
    labels: Sequence[str] | None = None,
    *,
    more: Sequence[str] = (),
    device: str | torch.device = "cpu",
    fetch: bool = True,
) -> Judge:
    """Opens a judge.

    Args:
        spec: see the module.
        labels: what a zero-shot judge chooses among; in alphabetical order, the names of the
            outputs where a file carries none and they are not ImageNet's.
        more: further labels, which a file's outputs may have or not.
        device: where it computes.
        fetch: whether weights may be downloaded. Without, a judge that needs them is checked as far
            as its library knows it, and has labels but no network.

    Raises:
        UserError: a bad spec, weights that do not fit or are not plain tensors, missing labels, a
            missing package, no network.
    """
    library, name, source = parse_spec(spec)
    if not fetch and needs_fetching(spec):
        return _unopened(spec, library, name, (*(labels or ()), *more))
    return _OPEN[library](spec, name, source, (labels or (), more), torch.device(device))


def mini_judges(device: str | torch.device = "cpu") -> dict[str, Judge]:
    """The bundled model's judges by axis, opened as anyone's torchvision file is.

    Raises:
        UserError: the installation lacks them.
    """
    folder = bundled("judges")
    found: dict[str, Judge] = {}
    for axis in ("object", "style"):
        file = folder / f"{axis}.safetensors"
        if not file.exists():
            raise UserError(f"The bundled judge {file} is missing: install the package again.")
        found[axis] = load_judge(f"torchvision:shufflenet_v2_x0_5@{file}", device=device)
    return found


def _fill(
    build: Callable[[int], nn.Module],
    state: Mapping[str, Tensor],
    candidates: Sequence[Candidate],
    file: Path,
) -> tuple[nn.Module, tuple[str, ...], str]:
    """The network with ``state`` in it, the first candidate labels that fit its outputs, and where
    those come from."""
    problem = "it names no labels"
    for origin, labels in candidates:
        if not labels:
            continue
        network = build(len(labels))
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            problem = _misfit(str(error), len(labels))
            continue
        return network, tuple(labels), origin
    raise UserError(f"{file} does not fit the network of the spec or its labels ({problem}).")


def _misfit(told: str, labels: int) -> str:
    """Why weights do not fit a network, from what torch says of it."""
    first, *problems = told.splitlines()
    sizes = [
        re.search(r"size mismatch for .* with shape torch\.Size\(\[(\d+)", p) for p in problems
    ]
    outputs = {found[1] for found in sizes if found}
    if all(sizes) and len(outputs) == 1:
        return f"it has {min(outputs)} outputs, but there are {labels} labels"
    return clipped((problems or [first])[-1].strip(), 120)


ASSUMED = "assumed: the images' labels in alphabetical order"
"""Origin of labels that nothing but the number of outputs speaks for."""
Candidate = tuple[str, Sequence[str] | None]
"""Labels that a network's outputs may have, after where they come from."""


Labels = tuple[Sequence[str], Sequence[str]]
"""What the images show, and what they may be asked about beside it."""


def _candidates(
    file: Path, card: Card | None, imagenet: Sequence[str], labels: Labels
) -> Sequence[Candidate]:
    """Labels that the outputs may have: the file's own, or what is usual."""
    if card is not None:
        return (("the file's metadata", card.labels),)
    own = read_labels(file)
    if own is not None:
        return ((f"{file.name}.labels.txt", own),)
    shown, more = labels
    orders = (sorted(set(shown)), sorted({*shown, *more}))
    return (("ImageNet's names", imagenet), *((ASSUMED, order) for order in orders))


def _resize_and_normalise(card: Card) -> Callable[[Image.Image], Tensor]:
    from torchvision import transforms as T

    # Resized as floats: no rounding to bytes between the two scales.
    steps = T.Compose(
        [
            T.PILToTensor(),
            T.ConvertImageDtype(torch.float32),
            T.Resize(card.size, antialias=True),
            T.CenterCrop(card.size),
            T.Normalize(card.mean, card.std),
        ]
    )
    return lambda image: steps(image)


def _unopened(spec: str, library: str, name: str, asked: Sequence[str]) -> Judge:
    """A judge that stays where it is; labels that nothing but its weights can tell are taken to be
    those asked for."""
    names: Sequence[str] = asked
    if library == "torchvision":
        names = torchvision_weights(name).meta["categories"]
    elif library == "timm":
        names = timm_labels(spec, name) or asked
    else:
        check_clip(spec)
    return NetworkJudge(spec, tuple(names), {}, lambda _: torch.empty(0), nn.Identity())


def _torchvision(
    spec: str, name: str, source: str | None, labels: Labels, device: torch.device
) -> Judge:
    from torchvision import models

    default = torchvision_weights(name)
    preprocess: Callable[[Image.Image], Tensor] = default.transforms()
    facts: dict[str, Any] = {"torchvision": str(default)}
    if source is None:
        with fetching(spec):
            network = models.get_model(name, weights=default)
        names = tuple(default.meta["categories"])
        facts["url"] = default.url
    else:
        file = Path(source)
        state, metadata = read_weights(file)
        card = read_card(metadata, file, name)
        if card is not None:
            preprocess = _resize_and_normalise(card)
            facts = {"size": card.size, "mean": card.mean, "std": card.std}
        network, names, facts["named_by"] = _fill(
            lambda n: models.get_model(name, num_classes=n),
            state,
            _candidates(file, card, default.meta["categories"], labels),
            file,
        )
        facts |= {"file": str(file), "sha256": sha256(file)}
    network.to(device).eval().requires_grad_(False)
    return NetworkJudge(spec, names, facts, preprocess, network, device)


def _timm(spec: str, name: str, source: str | None, labels: Labels, device: torch.device) -> Judge:
    timm = timm_library(spec, name)
    facts: dict[str, Any] = {}
    card = None
    if source is None:
        with fetching(spec):
            network = timm.create_model(name, pretrained=True)
        count = int(network.num_classes)
        own = dict(network.pretrained_cfg).get("label_names") or imagenet()
        if count != len(own):
            raise UserError(
                f"The judge {spec} has {count} outputs without names: give its weights as a "
                "file with a FILE.labels.txt beside it."
            )
        names = tuple(own)
        facts["weights"] = dict(network.pretrained_cfg).get("hf_hub_id") or name
    else:
        file = Path(source)
        state, metadata = read_weights(file)
        card = read_card(metadata, file, name)
        network, names, facts["named_by"] = _fill(
            lambda n: timm.create_model(name, num_classes=n),
            state,
            _candidates(file, card, imagenet(), labels),
            file,
        )
        facts |= {"file": str(file), "sha256": sha256(file)}
    if card is None:
        config = timm.data.resolve_model_data_config(network)
        preprocess = timm.data.create_transform(**config, is_training=False)
        facts["preprocess"] = {k: config[k] for k in ("input_size", "crop_pct", "mean", "std")}
    else:
        preprocess = _resize_and_normalise(card)
        facts |= {"size": card.size, "mean": card.mean, "std": card.std}
    network.to(device).eval().requires_grad_(False)
    return NetworkJudge(spec, names, facts, preprocess, network, device)


def _open_clip(
    spec: str, name: str, source: str | None, labels: Labels, device: torch.device
) -> Judge:
    import open_clip

    names = tuple(chain(*labels))
    if not names:
        raise UserError(f"The judge {spec} chooses among labels, but there are none to choose.")
    clip = load_clip(spec, device)
    facts = {"templates": list(TEMPLATES), "labels": list(names), **clip.facts}
    words = [to_words(label) for label in names]
    classifier = open_clip.build_zero_shot_classifier(
        clip.model, clip.tokenizer, words, TEMPLATES, device=device
    )

    def logits(x: Tensor) -> Tensor:
        features = clip.model.encode_image(x, normalize=True)
        scores: Tensor = clip.model.logit_scale.exp() * features @ classifier
        return scores

    return NetworkJudge(spec, names, facts, clip.preprocess, logits, device)


_OPEN: Mapping[str, Callable[..., Judge]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "open_clip": _open_clip,
}
