"""What a training step sees: latents and embeddings computed once, batches planned by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from erase.diffusion.conditioning import Conditioning, join, where
from erase.images.files import read_image
from erase.runtime import processes
from erase.runtime.seeding import cycle, generator
from erase.unlearn.parts import Part

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion
    from erase.prompts.groups import Role


Rows = TypeVar("Rows", Tensor, Conditioning)


@dataclass(frozen=True)
class Batch:
    """One step's tensors; letters as in the methods' equations.

    Attributes:
        x0, noise: forget latents and ε, (B, C, h, w).
        t: forget timesteps (B,).
        c, anchor_c: embedded prompts of the concept and of the anchor.
        retain_x0, retain_noise, retain_t, retain_c: the same of the retained images.
    """

    x0: Tensor
    noise: Tensor
    t: Tensor
    c: Conditioning
    anchor_c: Conditioning
    retain_x0: Tensor
    retain_noise: Tensor
    retain_t: Tensor
    retain_c: Conditioning


@dataclass(frozen=True)
class Encoded:
    """Images as latent posteriors with the prompt that belongs to each.

    Attributes:
        posterior: means and standard deviations (N, 2, C, h, w).
        prompt: index (N,) into embeddings.
    """

    posterior: Tensor
    prompt: Tensor

    def draw(self, index: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Samples x_0 and ε, both (B, C, h, w), for the images at ``index``."""
        mean, std = self.posterior[index].unbind(1)
        jitter, noise = torch.randn(2, *mean.shape, generator=g).to(mean)
        return mean + std * jitter, noise


@dataclass(frozen=True)
class Draw:
    """One step's images of one role, (B, …).

    Attributes:
        x0, noise: latents and ε, (B, C, h, w).
        t: timesteps (B,).
        prompt: index (B,) of each image's prompt.
    """

    x0: Tensor
    noise: Tensor
    t: Tensor
    prompt: Tensor


@dataclass(frozen=True)
class TrainingData:
    """What a method learns from; images only of the roles that it needs.

    Attributes:
        images: encoded images by role: ``forget`` and ``anchor`` with the index of their pair,
            ``retain`` with that of their retain prompt.
        pairs: the prompts (c, c').
        retain_prompts: the prompts c^r.
        words: what names the concept within each prompt c.
        c, anchor_c: the pairs, embedded (P rows).
        retain_c: the retain prompts, embedded (Q rows).
        empty_c: ∅ (one row).
        timesteps: T; t is drawn uniformly from [0, T).
        batch_size: images a step and role.
        seed: of every draw.
        size: side of the images in px; None is the model's own.
        retain_empty: share of retained images that are given the empty prompt, in [0, 1].
        part: which rows of a batch are looked at.
    """

    images: Mapping[Role, Encoded]
    pairs: tuple[tuple[str, str], ...]
    retain_prompts: tuple[str, ...]
    words: tuple[str, ...]
    c: Conditioning
    anchor_c: Conditioning
    retain_c: Conditioning
    empty_c: Conditioning
    timesteps: int
    batch_size: int
    seed: int
    size: int | None = None
    retain_empty: float = 0.0
    part: Part = field(default_factory=lambda: Part())

    def own(self, rows: Rows) -> Rows:
        """The rows to look at now, of a batch that was drawn as a whole."""
        return rows[self.part.index * self.part.turns + self.part.turn :: self.part.parts]

    def whole(self) -> TrainingData:
        """The same, with all rows of every batch for this process, at once."""
        return replace(self, part=Part())

    def batch(self, step: int) -> Batch:
        """The forget and retain images of a step; depends on (seed, step) alone."""
        forget, retain = self.images["forget"], self.images["retain"]
        g = generator(self.seed, "train", step)
        rows = cycle(len(forget.prompt), self.batch_size, step, self.seed, "forget")
        kept = cycle(len(retain.prompt), self.batch_size, step, self.seed, "retain")
        x0, noise = forget.draw(rows, g)
        retain_x0, retain_noise = retain.draw(kept, g)
        t, retain_t = torch.randint(self.timesteps, (2, self.batch_size), generator=g)
        dropped = torch.rand(self.batch_size, generator=g) < self.retain_empty
        pairs, prompts = forget.prompt[rows], retain.prompt[kept]
        retain_c = where(dropped, self.empty_c, self.retain_c[prompts])
        every = Batch(
            x0,
            noise,
            t.to(x0.device),
            self.c[pairs],
            self.anchor_c[pairs],
            retain_x0,
            retain_noise,
            retain_t.to(x0.device),
            retain_c,
        )
        return Batch(*(self.own(getattr(every, f.name)) for f in fields(every)))

    def draw(self, role: Role, step: int, purpose: str = "train") -> Draw:
        """The images of one role in a step; depends on (seed, purpose, role, step) alone."""
        images = self.images[role]
        g = generator(self.seed, purpose, role, step)
        rows = cycle(len(images.prompt), self.batch_size, step, self.seed, purpose, role)
        x0, noise = images.draw(rows, g)
        t = torch.randint(self.timesteps, (self.batch_size,), generator=g)
        every = Draw(x0, noise, t.to(x0.device), images.prompt[rows])
        return Draw(*(self.own(getattr(every, f.name)) for f in fields(every)))


def encode_files(
    diffusion: Diffusion, files: Sequence[Path], prompt: Sequence[int], size: int, batch: int = 16
) -> Encoded:
    """Reads and encodes images once; several processes share the batches out.

    Args:
        diffusion: whose autoencoder is used.
        files: the images.
        prompt: for each, the index of its prompt.
        size: side in px.
        batch: images at a time.
    """
    starts = list(range(0, len(files), batch))
    own = {}
    for i in processes.deal(starts):
        pixels = np.stack([read_image(f, size) for f in files[i : i + batch]])
        own[str(i)] = diffusion.encode(pixels).float()
    if processes.count() > 1:
        own = {i: part.cpu() for i, part in own.items()}
    parts = processes.gather(own)
    posterior = torch.cat([parts[str(i)] for i in starts]).to(diffusion.device)
    return Encoded(posterior, torch.tensor(list(prompt)))


def embed_all(diffusion: Diffusion, prompts: Sequence[str], batch: int = 64) -> Conditioning:
    """Many prompts embedded, in fp32, a batch at a time."""
    parts = [diffusion.embed(prompts[i : i + batch]) for i in range(0, len(prompts), batch)]
    return join(parts).float()
