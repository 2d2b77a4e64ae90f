"""Training data of a tiny model, made of noise instead of images."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from erase.diffusion.data import Encoded, TrainingData, embed_all
from erase.diffusion.model import Diffusion
from erase.formats.layouts import Part
from erase.methods import Method
from erase.prompts.groups import Role
from erase.unlearn.fit import Fit, Settings
from erase.unlearn.mask import Mask

PAIRS = (("a church", "a truck"), ("one church", "one truck"))
RETAINED = ("a radio", "a dog")


def make_data(
    d: Diffusion,
    *roles: Role,
    batch_size: int = 2,
    side: int | None = None,
    pairs: tuple[tuple[str, str], ...] = PAIRS,
    retained: tuple[str, ...] = RETAINED,
) -> TrainingData:
    """Five images of each role, their latents of the model's own size or of ``side``."""
    g = torch.Generator().manual_seed(1)
    side = side or d.size // d.stride

    def encoded() -> Encoded:
        posterior = torch.randn(5, 2, d.channels, side, side, generator=g)
        posterior[:, 1] = 0.05
        return Encoded(posterior, torch.arange(5) % len(pairs))

    return TrainingData(
        diffusion=d,
        images={role: encoded() for role in roles},
        pairs=pairs,
        retain_prompts=retained,
        words=("church",) * len(pairs),
        c=embed_all(d, [c for c, _ in pairs]),
        anchor_c=embed_all(d, [a for _, a in pairs]),
        retain_c=embed_all(d, retained),
        empty_c=embed_all(d, [""]),
        batch_size=batch_size,
        seed=0,
    )


def make_fit(
    d: Diffusion, scope: str, folder: Path, part: Part = "denoiser", **settings: float
) -> Fit:
    """A fit that may move every weight of the scope."""
    mask = Mask.full(d.scoped(scope, part), d.part(part), {"scope": scope})
    chosen = Settings(**{"steps": 2, "lr": 1e-3, **settings})  # type: ignore[arg-type]
    return Fit(chosen, mask, folder, Accelerator(cpu=True))


def copied(d: Diffusion) -> Diffusion:
    """The same model, which moves apart from ``d``."""
    return replace(d, pipeline=copy.deepcopy(d.pipeline))


def losses(folder: Path) -> list[float]:
    """The loss of each step, as logged."""
    rows = (folder / "train.jsonl").read_text().splitlines()
    return [json.loads(row)["loss"] for row in rows]


def fit_for(
    d: Diffusion, method: Method, scope: str, folder: Path, **settings: float
) -> tuple[Fit, Part]:
    """A fit of the part that a method moves, in the scope that it is bound to or in this one."""
    needs = method.NEEDS
    own = scope if needs.part == "denoiser" else str(needs.scope)
    return make_fit(d, own, folder, needs.part, **settings), needs.part


def moved(before: dict[str, torch.Tensor], d: Diffusion, part: Part = "denoiser") -> set[str]:
    """Names of the part's weights that differ from ``before``."""
    return {n for n, p in d.part(part).named_parameters() if not torch.equal(p, before[n])}


def weights(d: Diffusion, part: Part = "denoiser") -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in d.part(part).named_parameters()}
