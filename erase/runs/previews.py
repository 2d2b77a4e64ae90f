"""Pictures while training: four fixed prompts, drawn a few times with few sampling steps.

RUN/previews/step-000075/{0,1,2,3}.png     after so many steps
RUN/previews/previews.json                 what they show

They are no result: nothing reads them but the page, and they draw no number of training's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from erase.images.previews import FOLDER, RECORD, Shown
from erase.runtime.errors import UserError
from erase.runtime.files import atomic, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.model import Diffusion
    from erase.images.request import Request, Sampler

STEPS = 10
"""Most denoising steps of a preview."""
OF_EACH = 2
"""Pictures of the concept, and as many of what is retained."""


@dataclass(frozen=True)
class Previews:
    """What is drawn when.

    Attributes:
        folder: of the previews.
        shown: the pictures, in their order.
        sampler: how they are made.
        points: after which steps.
        c: their embedded prompts; None embeds them anew when they are drawn.
        empty: ∅, one row; likewise.
        at_once: pictures at a time, >= 1.
    """

    folder: Path
    shown: tuple[Shown, ...]
    sampler: Sampler
    points: tuple[int, ...]
    c: Conditioning | None
    empty: Conditioning | None
    at_once: int

    def draw(self, diffusion: Diffusion, step: int) -> list[NDArray[np.uint8]]:
        """Draws and keeps the pictures of a step, RGB (H, W, 3); none where it is not their turn,
        where they are there already, or from weights that are not finite."""
        from PIL import Image

        files = [self.folder / f"step-{step:06d}" / f"{i}.png" for i in range(len(self.shown))]
        if step not in self.points or all(file.exists() for file in files):
            return []
        made: list[NDArray[np.uint8]] = []
        with suppress(UserError):  # which training says better
            for start in range(0, len(files), self.at_once):
                made.extend(self._sample(diffusion, slice(start, start + self.at_once)))
        for file, pixels in zip(files, made, strict=False):
            with atomic(file) as part:
                Image.fromarray(pixels).save(part, format="PNG")
        write_json(self.folder / RECORD, {"images": [asdict(one) for one in self.shown]})
        return made

    def _sample(self, diffusion: Diffusion, rows: slice) -> NDArray[np.uint8]:
        """As the pipeline would, but with its networks wherever and in whatever precision training
        keeps them."""
        import torch

        from erase.diffusion.conditioning import join

        sampler, seeds = self.sampler, [one.seed for one in self.shown[rows]]
        c = self.c[rows] if self.c else diffusion.embed([one.prompt for one in self.shown[rows]])
        empty = self.empty or diffusion.unconditional()
        scheduler = diffusion.family.sampler(sampler.name)
        scheduler.set_timesteps(sampler.steps)
        both = join([c, empty.repeat(len(seeds))])
        with torch.no_grad():
            x = diffusion.noise(seeds, sampler.size) * scheduler.init_noise_sigma
            for now in scheduler.timesteps:
                given = scheduler.scale_model_input(x, now).repeat(2, 1, 1, 1)
                t = now.to(x.device).repeat(len(given))
                conditional, unconditional = diffusion.predict(given, t, both).to(x).chunk(2)
                guided = unconditional + sampler.guidance * (conditional - unconditional)
                x = scheduler.step(guided, now, x).prev_sample
            with _at_hand(diffusion):
                return diffusion.decode(x)


@contextmanager
def _at_hand(diffusion: Diffusion) -> Iterator[None]:
    """The autoencoder on the device meanwhile, which --low-memory keeps off it."""
    vae = diffusion.autoencoder
    place = None if vae is None else next(vae.parameters()).device
    if vae is None or place == diffusion.device:
        yield
        return
    vae.to(diffusion.device)
    try:
        yield
    finally:
        vae.to(place)


def plan_previews(
    diffusion: Diffusion,
    rows: Sequence[Request],
    prompts: Mapping[str, Sequence[str]],
    sampler: Sampler,
    folder: Path,
    *,
    times: int,
    steps: int | None,
    at_once: int,
) -> Previews:
    """What a training draws; embeds the prompts, while the text encoders are on the device.

    Args:
        diffusion: the model.
        rows: of the evaluation, whose prompts are taken.
        prompts: by role, where the evaluation has none.
        sampler: the recipe's.
        folder: of the previews.
        times: >= 1; a closed form is drawn before and after, or with 1 after.
        steps: of the training; None of a closed form, which counts as one.
        at_once: pictures at a time.
    """
    shown: list[Shown] = []
    for role in ("forget", "retain"):
        own = list(dict.fromkeys(r.prompt for r in rows if r.role == role)) or prompts[role]
        # Two different ones, or one with two seeds.
        chosen = [own[i * len(own) // OF_EACH] for i in range(OF_EACH)]
        shown += [Shown(prompt, len(shown) + i, role) for i, prompt in enumerate(chosen)]
    return Previews(
        folder / FOLDER,
        tuple(shown),
        replace(sampler, steps=min(sampler.steps, STEPS)),
        turns(times, steps),
        diffusion.embed([one.prompt for one in shown]),
        diffusion.unconditional(),
        at_once,
    )


def turns(times: int, steps: int | None) -> tuple[int, ...]:
    """After which steps ``times`` pictures are drawn, evenly spaced to the end."""
    if steps is None:
        return (0, 1)[-times:]
    return tuple(sorted({max(1, steps * i // times) for i in range(1, times + 1)}))
