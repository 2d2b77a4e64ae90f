"""Trains the judges: object, style, strict, the feature network and the tiny CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erase.eval.instruments.bundled import FeatureNet
from erase.mini import world
from erase.mini.networks import build_clip, build_judge
from erase.mini.optimise import COUNT, optimise, pictures, prompt_bank

SIDE = 128
"""Side in px that the judges see: ShuffleNet halves its input five times."""


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, noise and brightness as an autoencoder leaves them; pictures in [0, 1]."""
    sigma = torch.rand((), generator=generator) * 1.2
    if sigma > 0.3:
        taps = torch.exp(-0.5 * (torch.arange(-2.0, 3.0) / sigma).square())
        taps = (taps / taps.sum()).view(1, 1, 1, 5).expand(3, 1, 1, 5)
        x = F.conv2d(F.pad(x, (2, 2, 0, 0), mode="reflect"), taps, groups=3)
        x = F.conv2d(F.pad(x, (0, 0, 2, 2), mode="reflect"), taps.transpose(2, 3), groups=3)
    noise = torch.randn(x.shape, generator=generator)
    level = 0.06 * torch.rand(len(x), 1, 1, 1, generator=generator)
    gain = 1 + 0.1 * (torch.rand(len(x), 3, 1, 1, generator=generator) - 0.5)
    return (x * gain + level * noise).clamp(0, 1)


class Drawings(NamedTuple):
    """What judges learn from.

    Attributes:
        images: uint8 (N, 3, 64, 64).
        objects, styles: int64 (N,), their labels.
    """

    images: Tensor
    objects: Tensor
    styles: Tensor

    def batch(self, generator: torch.Generator, blur: bool, size: int) -> tuple[Tensor, Tensor]:
        """Numbers of a random batch, and its images in [0, 1]."""
        index = torch.randint(len(self.images), (size,), generator=generator)
        x = self.images[index].float() / 255
        return index, augment(x, generator) if blur else x


def train_judges(work: Path, seed: int) -> dict[str, nn.Module]:
    """Object, style and strict judges, the feature network and the tiny CLIP."""
    drawings = Drawings(*pictures("judge", COUNT, work))
    labelled = (
        ("object", drawings.objects),
        ("style", drawings.styles),
        ("strict", drawings.objects),
    )
    judges = {name: _judge(drawings, name, labels, work, seed) for name, labels in labelled}
    judges["features"] = _features(drawings, work, seed)
    judges["clip"] = _clip(drawings, work, seed)
    return judges


def _judge(drawings: Drawings, name: str, labels: Tensor, work: Path, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = build_judge(int(labels.max()) + 1)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        index, x = drawings.batch(generator, name != "strict", 48)
        x = F.interpolate(x, SIDE, mode="bilinear", antialias=True)
        return F.cross_entropy(net((x - 0.5) / 0.5), labels[index], label_smoothing=0.02)

    optimise(name, net, loss, steps=1200, lr=4e-3, work=work, seed=seed)
    return net.eval()


def _features(drawings: Drawings, work: Path, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    features = FeatureNet(len(world.OBJECTS) * len(world.STYLES))
    cells = drawings.objects * len(world.STYLES) + drawings.styles

    def loss(step: int, generator: torch.Generator) -> Tensor:
        index, x = drawings.batch(generator, True, 64)
        return F.cross_entropy(features.head(features(x)), cells[index])

    optimise("features", features, loss, steps=1000, lr=2e-3, work=work, seed=seed)
    return features.eval()


def _clip(drawings: Drawings, work: Path, seed: int) -> nn.Module:
    import open_clip

    _, objects, styles = drawings
    torch.manual_seed(seed)
    clip = build_clip()
    bank = prompt_bank(world.TEMPLATES)
    bank += [
        (world.caption(t, style=s), -1, j)
        for t in world.STYLE_TEMPLATES
        for j, s in enumerate(world.STYLE_LABELS)
    ]
    ids = open_clip.tokenize([p for p, _, _ in bank])
    rows: dict[tuple[int, int], list[int]] = {}
    for row, (_, o, s) in enumerate(bank):
        rows.setdefault((o, s), []).append(row)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        index, x = drawings.batch(generator, True, 96)
        draws = torch.rand(len(index), 2, generator=generator).tolist()
        chosen, labels = [], []
        for i, (p, q) in zip(index.tolist(), draws, strict=True):
            # Captions that name one axis only teach the words of each by themselves.
            label = (
                -1 if p < 0.2 else int(drawings.objects[i]),
                -1 if p > 0.8 else int(drawings.styles[i]),
            )
            options = rows[label]
            chosen.append(options[int(q * len(options))])
            labels.append(label)
        image, text, temperature = clip((x - 0.5) / 0.5, ids[chosen])
        logits = temperature * image @ text.T
        o = torch.tensor([k[0] for k in labels])
        s = torch.tensor([k[1] for k in labels])
        fits = ((objects[index][:, None] == o[None]) | (o[None] < 0)) & (
            (styles[index][:, None] == s[None]) | (s[None] < 0)
        )
        rows_target = fits.float() / fits.sum(1, keepdim=True)
        cols_target = (fits.float() / fits.sum(0, keepdim=True)).T
        return F.cross_entropy(logits, rows_target) + F.cross_entropy(logits.T, cols_target)

    optimise("clip", clip, loss, steps=1500, lr=1e-3, work=work, seed=seed)
    return clip.eval()
