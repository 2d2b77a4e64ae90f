"""``erase generate --prompt``: a quick look at what a model makes of a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.errors import UserError
from erase.recipe import default_recipe, load_recipe, make_recipe
from erase.runs import read_facts

if TYPE_CHECKING:
    from jsonargparse import Namespace


def quick_look(options: Namespace, overrides: Mapping[str, Any]) -> None:
    """Samples one prompt with a few seeds into a folder.

    Args:
        options: of ``erase generate`` with a prompt.
        overrides: recipe values among them.

    Raises:
        UserError: options without effect here, or images that exist.
    """
    from PIL import Image

    from erase.concepts import Concept
    from erase.devices import accelerator
    from erase.diffusion import Diffusion, Sampler, Shot
    from erase.files import atomic

    ignored = [f for f in ("concept", "anchor", "judge", "retain") if options.get(f) is not None]
    if ignored or options.dry_run:
        flag = ignored[0] if ignored else "dry-run"
        raise UserError(f"--{flag} has no effect beside --prompt: leave it out.")
    if options.count < 1:
        raise UserError(f"--count {options.count} is less than 1: ask for at least one image.")
    model = options.model or "mini"
    shown = Concept(name=options.prompt, kind="text", word=options.prompt)
    record = Path(model).parent / "run.json"
    if options.recipe is None and record.exists():
        # A run's own model is shown as the run's evaluation showed it.
        saved = dict(read_facts(record)["recipe"])
        settings = make_recipe(saved.pop("name"), saved | dict(overrides))
    else:
        name = options.recipe or default_recipe(model, shown)
        settings = load_recipe(name, overrides)
    out = Path(options.out or "runs/look")
    first = options.seed or 0
    files = [out / f"{seed}.png" for seed in range(first, first + options.count)]
    existing = [f for f in files if f.exists()]
    if existing and not options.overwrite:
        raise UserError(f"{existing[0]} exists: add --overwrite or choose another --out.")
    device = accelerator(options.device, settings.precision, options.deterministic).device
    diffusion = Diffusion.load(model, device)
    sampler = Sampler(
        settings.sampler, settings.sampling_steps, settings.guidance_scale, settings.size
    )
    shots = [Shot(options.prompt, seed) for seed in range(first, first + options.count)]
    out.mkdir(parents=True, exist_ok=True)
    size = settings.sampling_batch
    for start in range(0, len(shots), size):
        pixels = diffusion.sample(shots[start : start + size], sampler)
        for file, image in zip(files[start : start + size], pixels, strict=True):
            with atomic(file) as part:
                Image.fromarray(image).save(part, format="PNG")
    print(f"{len(files)} images in {out}")
