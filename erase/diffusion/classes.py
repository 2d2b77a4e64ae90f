"""Class-conditional models: a prompt is the name of a class, and the empty one the null class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from erase.diffusion.conditioning import Conditioning, join
from erase.diffusion.discrete import Discrete
from erase.diffusion.scopes import in_scope
from erase.formats.layouts import Classes, Layout
from erase.runtime.errors import UserError, clipped, nearest


@dataclass(frozen=True)
class ClassReader:
    """Reads prompts as labels; see ``families.Reader``.

    Attributes:
        classes: what the model is told.
        device: where the labels are wanted.
    """

    classes: Classes
    device: torch.device
    closed: ClassVar[bool] = True
    length: ClassVar[int] = 1

    def embed(self, prompts: Sequence[str]) -> Conditioning:
        """The labels (B,), int64.

        Raises:
            UserError: a prompt that is no class, or the null class of a model without one.
        """
        return Conditioning(torch.tensor(self.ids(prompts), dtype=torch.long, device=self.device))

    def unconditional(self) -> Conditioning:
        """The null class; errors as for ``embed``."""
        return self.embed([""])

    def ids(self, prompts: Sequence[str]) -> list[int]:
        """The prompts' labels; errors as for ``embed``."""
        return [self._label(prompt) for prompt in prompts]

    def _label(self, prompt: str) -> int:
        names = self.classes.names
        if prompt in names:
            return names.index(prompt)
        if prompt:
            raise UserError(
                f"The model has no class '{clipped(prompt)}'.{nearest(prompt, names)} A prompt is "
                "the name of a class, or empty for the null class."
            )
        if self.classes.null is None:
            raise UserError(
                "The model has no null class, which guidance starts from and an erasure is "
                "measured by: give one that was trained with labels left out."
            )
        return self.classes.null

    def cut(self, prompts: Iterable[str]) -> list[str]:
        """None: every name is read whole."""
        return []

    def reads(self, prompt: str, word: str) -> bool:
        """Always: every name is read whole."""
        return True

    def facts(self) -> list[Any]:
        """The names of the classes, by label, and the null class."""
        return [list(self.classes.names), self.classes.null]


@dataclass(frozen=True)
class ClassConditional(Discrete):
    """What the families have in common whose denoiser is told a label; the pipeline has their
    ``classes``."""

    layout: ClassVar[Layout]

    def reader(self, device: torch.device) -> ClassReader:
        """See ``Family``."""
        return ClassReader(self.pipeline.classes, device)

    def blank(self, denoiser: Any, rows: int) -> Conditioning:
        """See ``Family``."""
        return Conditioning(torch.empty(rows, dtype=torch.long, device="meta"))

    def in_scope(self, scope: str, name: str) -> bool:
        """See ``Family``; there is no cross-attention, which most scopes are about.

        Raises:
            UserError: one of those, or no scope.
        """
        if "xattn" in scope:
            raise UserError(
                f"The scope '{scope}' is about cross-attention to a text, which a model that is "
                "told a class does not have: choose another --recipe, such as esd-all, or --scope "
                "full."
            )
        return in_scope(scope, name)

    def predict(self, denoiser: Any, x_t: Tensor, t: Tensor, c: Conditioning) -> Tensor:
        """See ``Family``."""
        x_t = x_t.to(next(denoiser.parameters()).dtype)
        predicted: Tensor = denoiser(x_t, t, class_labels=c.hidden).sample
        return predicted[:, : x_t.shape[1]]  # what follows is a learned variance

    @torch.no_grad()
    def denoise(
        self,
        sampler: Any,
        noise: Tensor,
        c: Conditioning,
        empty: Conditioning | None,
        *,
        steps: int,
        guidance: float,
    ) -> Tensor:
        """See ``Family``; e = e_∅ + s·(e_c - e_∅)."""
        denoiser = getattr(self.pipeline, self.layout.denoiser)
        sampler.set_timesteps(steps)
        x_t = noise * sampler.init_noise_sigma
        both = c if empty is None else join([c, empty])
        for now in sampler.timesteps:
            given = sampler.scale_model_input(x_t, now)
            given = given if empty is None else torch.cat([given, given])
            e = self.predict(denoiser, given, now.to(x_t.device).expand(len(given)), both).to(x_t)
            if empty is not None:
                e_c, e_empty = e.chunk(2)
                e = e_empty + guidance * (e_c - e_empty)
            x_t = sampler.step(e, now, x_t).prev_sample
        x0: Tensor = x_t
        return x0


def check_labels(classes: Classes, labels: object, source: str) -> None:
    """Refuses names that are not those of a denoiser's labels.

    Args:
        classes: the names.
        labels: how many the denoiser has, the null class among them.
        source: the model in messages.

    Raises:
        UserError: a name that comes twice or is empty, another number of names, or a null class
            that is none of the labels.
    """
    names, null = classes.names, classes.null
    bad = next((n for n in names if not n.strip() or names.count(n) > 1), None)
    if bad is not None:
        raise UserError(
            f"The class '{clipped(bad)}' of {source} is blank or named twice: give each class a "
            "name of its own."
        )
    odd = next((n for n in names if n != n.strip() or not n.isprintable()), None)
    if odd is not None:
        raise UserError(
            f"The class {clipped(odd)!r} of {source} begins or ends with a space, or has "
            "characters that can't be printed: name it without them."
        )
    wanted = len(names) + (null is not None)
    if labels != wanted or null not in (None, len(names)):
        raise UserError(
            f"{source} names {len(names)} classes and the null class {null}, but its denoiser has "
            f"{labels} labels: name every class in the order of its label, and as the null class "
            "the label after the last."
        )
