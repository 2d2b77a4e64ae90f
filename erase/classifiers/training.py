"""How networks are trained from scratch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Training:
    """How a network is trained on these data from scratch, base and retrained alike, by SGD with a
    momentum of 0.9."""

    epochs: float = field(
        default=40.0, metadata={"help": "passes over the training samples", "above": 0.0}
    )
    lr: float = field(default=0.05, metadata={"help": "learning rate of training", "above": 0.0})
    batch: int = field(default=64, metadata={"help": "samples a step of training", "min": 1})
    weight_decay: float = field(
        default=5e-4, metadata={"help": "weight decay of training", "min": 0.0}
    )
    schedule: Literal["constant", "cosine", "step"] = field(
        default="cosine",
        metadata={"help": "course of training's learning rate, see --lr-schedule"},
    )
    augment: Literal["none", "crop-flip"] = field(
        default="none",
        metadata={"help": "padded by 4 px, cropped at random and mirrored half of the time"},
    )
