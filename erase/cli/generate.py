"""``erase generate --prompt`` and ``--set``: what a model makes of prompts, without a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.cli.options import at_strength, strength_of
from erase.recipes.choice import default_recipe, recipe_for
from erase.recipes.recipe import Recipe, keys, load_recipe, recorded_recipe
from erase.runs.folder import read_facts
from erase.runs.make import own_sampling
from erase.runtime import processes
from erase.runtime.errors import UserError
from erase.runtime.seeding import MAX_SEED
from erase.runtime.words import counted

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from erase.diffusion.model import Diffusion
    from erase.images.request import Sampler


def quick_look(options: Namespace, overrides: Mapping[str, Any]) -> None:
    """Samples one prompt with a few seeds into a folder.

    Args:
        options: of ``erase generate`` with a prompt.
        overrides: recipe values among them.

    Raises:
        UserError: options without effect here.
    """
    from PIL import Image

    from erase.diffusion.model import Diffusion
    from erase.images.request import Shot
    from erase.runtime.devices import accelerator, for_sampling, memory_told
    from erase.runtime.files import atomic
    from erase.runtime.locks import alone_in

    _refuse_idle(options, overrides, "--prompt")
    if len(options.prompt) > 1:
        raise UserError("--prompt takes one prompt: give a file of several with --set.")
    [prompt] = options.prompt
    model, ways = _model(options)
    settings = _settings(options, overrides, model, prompt)
    out = Path(options.out or "runs/look")
    first = options.seed or 0
    seeds = range(first, first + _count(options, 4))
    if not 0 <= seeds[0] <= seeds[-1] < MAX_SEED:
        raise UserError(f"--seed {first} is out of range: give one from 0 to 2^63 - 1.")
    device = accelerator(
        options.device, for_sampling(settings.precision), options.deterministic
    ).device
    with memory_told():
        diffusion = Diffusion.load(model, device, **ways)
    _check(diffusion, settings, [prompt])
    shots = [Shot(prompt, seed) for seed in seeds]
    size = settings.sampling_batch
    with alone_in(out):
        files = _files(out, seeds, options.overwrite)
        for start in range(0, len(shots), size):
            with memory_told():
                pixels = diffusion.sample(shots[start : start + size], _sampler(settings))
            for file, image in zip(files[start : start + size], pixels, strict=True):
                with atomic(file) as part:
                    Image.fromarray(image).save(part, format="PNG")
    names = _ends([f.name for f in files])
    seed = f"seed{'s' if len(seeds) > 1 else ''} {_ends(seeds)}"
    print(f"{counted(len(files), 'image')} in {out} ({seed}): {names}")


def _files(out: Path, seeds: Sequence[int], overwrite: bool) -> list[Path]:
    """Named by their seeds; where one is there already, numbered on from the last."""
    files = [out / f"{seed}.png" for seed in seeds]
    if overwrite or not any(f.exists() for f in files):
        return files
    taken = max(int(f.stem) for f in out.glob("*.png") if f.stem.isdecimal())
    return [out / f"{taken + 1 + k}.png" for k in range(len(files))]


def _ends(items: Sequence[object]) -> str:
    return f"{items[0]}" if len(items) == 1 else f"{items[0]} to {items[-1]}"


def sample_set(options: Namespace, overrides: Mapping[str, Any]) -> None:
    """Samples every prompt of a set into a folder ``CASE_K.png`` with a manifest; resumable.

    A row's own seed, guidance scale and size are honoured; image k of a row has its seed + k.

    Args:
        options: of ``erase generate`` with a set.
        overrides: recipe values among them.

    Raises:
        UserError: options without effect here, no such set, or images of other settings.
    """
    from erase.diffusion.fingerprint import model_fingerprint
    from erase.diffusion.model import Diffusion
    from erase.images.files import MANIFEST
    from erase.images.make import generate, is_begun
    from erase.images.plan import plan
    from erase.prompts.prompt_set import load_set
    from erase.runs.folder import RECORD
    from erase.runs.run import slug
    from erase.runtime.devices import accelerator, for_sampling, memory_told
    from erase.runtime.files import digest, is_hidden
    from erase.runtime.locks import alone_in

    _refuse_idle(options, overrides, "--set")
    if options.seed is not None:
        raise UserError("--seed has no effect with --set, whose rows have seeds: leave it out.")
    model, ways = _model(options)
    settings = _settings(options, overrides, model, "")
    prompts = load_set(options.set)
    per_prompt = _count(options, 1)
    asked = plan(prompts.rows, per_prompt * len(prompts.rows), prompts.name, "retain")
    asked.sort(key=lambda r: (r.guidance or -1.0, tuple(side or 0 for side in r.size or ())))
    source = Path(options.model or model)
    if source.name == "model" and (source.parent / RECORD).is_file():
        source = source.parent  # a run's model by the name of the run
    named = f"{slug(source.as_posix())}{at_strength(options.strength)}"
    out = Path(options.out or f"runs/{named}-{slug(prompts.name)}")
    if out.is_dir() and not all(map(is_hidden, out.iterdir())) and not is_begun(out):
        raise UserError(f"--out {out} holds other files: choose another folder.")
    device = accelerator(
        options.device, for_sampling(settings.precision), options.deterministic, several=True
    ).device
    with memory_told():
        diffusion = Diffusion.load(model, device, **ways)
    _check(diffusion, settings, [r.prompt for r in prompts.rows], {r.size for r in asked})
    fingerprint = digest(model_fingerprint(diffusion))
    sampler, batch = _sampler(settings), settings.sampling_batch
    with alone_in(out), memory_told():
        made = generate(
            *(diffusion, asked, out, sampler, batch),
            model=fingerprint,
            replace=bool(options.overwrite),
        )
    if processes.is_main():
        print(f"{counted(len(made), 'image')} in {out}, listed in {MANIFEST}")


def _check(
    diffusion: Diffusion,
    settings: Recipe,
    prompts: Sequence[str],
    sizes: Iterable[tuple[int | None, int | None] | None] = (),
) -> None:
    """Refuses what the model can't make, before any image, and tells what it reads in part."""
    from erase.diffusion.sides import check_sides
    from erase.runs.wording import cut_off
    from erase.runtime.notes import note

    diffusion.family.check_sampling(settings.sampling_steps, settings.sampler)
    check_sides(diffusion, _sampler(settings), sizes)
    if diffusion.reader.closed:
        diffusion.reader.ids(prompts)
    if told := cut_off(diffusion.reader, {"given": prompts}):
        note(told)


def _refuse_idle(options: Namespace, overrides: Mapping[str, Any], beside: str) -> None:
    idle = [
        *("concept", "anchor", "method", "retain", "neighbours", "forget_folder", "retain_folder"),
        *("judge", "clip", "features", "lpips", "shared"),
    ]
    ignored = [flag for flag in idle if options.get(flag) is not None]
    ignored += [f"nudity.{key}" for key, value in vars(options.nudity).items() if value is not None]
    ignored += [key for key in overrides if key not in (*keys("base"), "precision")]
    if ignored or options.dry_run:
        flag = ignored[0].replace("_", "-") if ignored else "dry-run"
        raise UserError(f"--{flag} has no effect with {beside}: leave it out.")


def _count(options: Namespace, default: int) -> int:
    count = default if options.count is None else int(options.count)
    if count < 1:
        raise UserError(f"--count {count} is less than 1: ask for at least one image.")
    return count


def _settings(options: Namespace, overrides: Mapping[str, Any], model: str, prompt: str) -> Recipe:
    """How images are made: as a run's evaluation made them, where the model is a run's own."""
    from erase.formats.generation import classes_of_model
    from erase.prompts.classes import class_concept
    from erase.prompts.concept import CLASS, Concept

    record = Path(model).parent / "run.json"
    if options.recipe is None and record.exists():
        return recorded_recipe(read_facts(record)["recipe"], overrides)
    told = classes_of_model(model)
    shown = Concept(name=prompt, kind="text", word=prompt)
    if told:
        shown = class_concept(f"{CLASS}{told.names[0]}", told.names)
    name = recipe_for(options.recipe or default_recipe(model, shown), model)
    return load_recipe(name, {**(own_sampling(model, name) if told else {}), **overrides})


def _model(options: Namespace) -> tuple[str, dict[str, Any]]:
    """What ``Diffusion.load`` opens, and how: of an edit, its base."""
    model = options.model or "mini"
    ways = {"channels_last": options.channels_last, "compiled": options.compile}
    strength = strength_of(model, options.base, options.strength)
    if strength is None:
        if options.base is not None:
            raise UserError("--base has no effect on a whole model: leave it out.")
        return model, ways
    return str(options.base), {**ways, "edit": model, "strength": strength}


def _sampler(settings: Recipe) -> Sampler:
    from erase.images.request import Sampler

    return Sampler(
        settings.sampler, settings.sampling_steps, settings.guidance_scale, settings.size
    )
