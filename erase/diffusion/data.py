"""What a training step sees: latents and embeddings computed once, batches planned by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from erase.diffusion.conditioning import Conditioning, join, where
from erase.images.files import read_image
from erase.runtime import processes
from erase.runtime.seeding import cycle, generator
from erase.unlearn.parts import WHOLE

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion
    from erase.prompts.groups import Role


@dataclass(frozen=True)
class Noised:
    """Noised images of one role and what belongs to them, B rows; letters as in the methods'
    equations.

    Attributes:
        x_t: latents x_0 with noise ε at the level of their timesteps, (B, C, h, w).
        t: timesteps (B,).
        c: their prompts, embedded.
        target: what a perfect denoiser would say, ε or v, (B, C, h, w).
        prompt: index (B,) of each one's prompt among those of its role.
    """

    x_t: Tensor
    t: Tensor
    c: Conditioning
    target: Tensor
    prompt: Tensor


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
class TrainingData:
    """What a method learns from; images only of the roles that it needs.

    Attributes:
        diffusion: the model whose latents, noise schedule and target they are.
        images: encoded images by role: ``forget`` and ``anchor`` with the index of their pair,
            ``retain`` with that of their retain prompt.
        pairs: the prompts (c, c').
        retain_prompts: the prompts c^r.
        words: what names the concept within each prompt c.
        c, anchor_c: the pairs, embedded (P rows).
        retain_c: the retain prompts, embedded (Q rows).
        empty_c: ∅ (one row).
        batch_size: images a step and role.
        seed: of every draw.
        size: side of the images in px; None is the model's own.
        retain_empty: share of retained images that are given the empty prompt, in [0, 1].
    """

    diffusion: Diffusion
    images: Mapping[Role, Encoded]
    pairs: tuple[tuple[str, str], ...]
    retain_prompts: tuple[str, ...]
    words: tuple[str, ...]
    c: Conditioning
    anchor_c: Conditioning
    retain_c: Conditioning
    empty_c: Conditioning
    batch_size: int
    seed: int
    size: int | None = None
    retain_empty: float = 0.0

    def batch(self, step: int, part: slice = WHOLE) -> tuple[Noised, Noised]:
        """The forget and the retain images of a step; depends on (seed, step) alone."""
        roles: tuple[Role, ...] = ("forget", "retain")
        rows = {role: self._rows(role, step) for role in roles}
        forget, retain = self.noised(rows, generator(self.seed, "train", step), part)
        return forget, retain

    def draw(self, role: Role, step: int, part: slice = WHOLE, *, purpose: str = "train") -> Noised:
        """The images of one role in a step; depends on (seed, purpose, role, step) alone."""
        g = generator(self.seed, purpose, role, step)
        [drawn] = self.noised({role: self._rows(role, step, purpose)}, g, part)
        return drawn

    def noised(
        self, rows: Mapping[Role, Tensor], g: torch.Generator, part: slice = WHOLE
    ) -> list[Noised]:
        """Images with noise of one stream, each role's in turn.

        Args:
            rows: by role, which of its images, as many of each.
            g: of every draw, made for all rows whatever the part.
            part: which of the rows are returned.
        """
        latents = [self.images[role].draw(index, g) for role, index in rows.items()]
        shape = (len(rows), len(next(iter(rows.values()))))
        times = self.diffusion.times(shape, g)
        empty = torch.rand(shape[1], generator=g) < self.retain_empty
        found = []
        for (role, index), drawn, t in zip(rows.items(), latents, times, strict=True):
            x0, noise = (x[part] for x in drawn)
            t, prompt = t[part].to(x0.device), self.images[role].prompt[index[part]]
            if role == "retain":
                c = where(empty[part], self.empty_c, self.retain_c[prompt])
            else:
                c = self.c[prompt]
            x_t = self.diffusion.add_noise(x0, noise, t)
            found.append(Noised(x_t, t, c, self.diffusion.target(x0, noise, t), prompt))
        return found

    def _rows(self, role: Role, step: int, *purpose: str) -> Tensor:
        """Which of a role's images a step takes."""
        count = len(self.images[role].prompt)
        return cycle(count, self.batch_size, step, self.seed, *purpose, role)


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
