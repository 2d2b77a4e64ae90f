"""What a run asks of a model, checked before any work."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from erase.diffusion.sides import check_sides
from erase.methods import load_method
from erase.runs.evaluation import requests
from erase.runs.plan import warnings
from erase.runs.run import Run
from erase.runs.wording import check_prompts, cut_off, training_prompts
from erase.runtime import processes
from erase.runtime.devices import NO_BF16, has_bf16
from erase.runtime.errors import UserError, clipped
from erase.runtime.notes import note

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion


def check(run: Run, diffusion: Diffusion) -> None:
    """Refuses what can't work with this model and these processes.

    Raises:
        UserError: a method, a concept or a prompt of texts where the model is told classes, or no
            null class there; prompts that it reads as the same or not to the end of what
            matters (see ``wording.check_prompts``), a size that it can't make, a scope that it
            hasn't, a sampler that does not suit it, a batch that can't be shared out, or a prompt
            without the word that the method looks for.
    """
    _check_reader(run, diffusion)
    check_prompts(run, diffusion.reader)
    _check_batch(run)
    _check_images(run, diffusion)
    if told := cut_off(diffusion.reader, training_prompts(run)):
        note(told)
    for warning in warnings(run):
        note(warning)
    needs = load_method(run.recipe.method).NEEDS
    if run.recipe.low_memory and diffusion.device.type == "cuda" and not has_bf16():
        raise UserError(f"--low-memory {NO_BF16}: use --micro-batch 1 and a smaller --scope.")
    if run.recipe.low_memory and not needs.mean:
        note(
            f"the loss of {run.recipe.method} is computed over the whole batch, which --low-memory "
            "does not split: lower --batch-size to save memory."
        )
    if needs.word:
        diffusion.text.positions([c for c, _ in run.pairs()], run.words())
    if check_texts := getattr(load_method(run.recipe.method), "check_texts", None):
        check_texts(run.recipe.config, diffusion, training_prompts(run), run.words())
    if needs.word:
        for concept in (target.concept for target in run.targets):
            if concept.kind == "text" and len(concept.word.split()) > 2:
                note(
                    f"every word of '{concept.word}' counts as the concept's: put its own words "
                    "in brackets, as in 'a photo of a [church]'."
                )


def _check_reader(run: Run, diffusion: Diffusion) -> None:
    """Refuses a model that is told something else than the run is about; see ``check``."""
    method, needs = run.recipe.method, load_method(run.recipe.method).NEEDS
    if diffusion.reader.closed:
        if needs.text:
            raise UserError(
                f"{method} {needs.text}, and {run.model} is told a class instead of a text: choose "
                "another --recipe, such as salun."
            )
        for target in run.targets:
            if not target.concept.classes:
                raise UserError(
                    f"{run.model} is told a class instead of a text, and "
                    f"'{clipped(target.concept.name)}' is a concept of texts: give --concept "
                    "class:NAME."
                )
        # The null class too, and what describes the user's own images.
        own = (prompt for prompts in training_prompts(run).values() for prompt in prompts)
        diffusion.reader.ids(["", *own])
    diffusion.scoped(run.recipe.scope, needs.part)


def _check_images(run: Run, diffusion: Diffusion) -> None:
    """Refuses images that the model can't make; see ``check``."""
    asked = {row.size for rows in requests(run).values() for row in rows}
    check_sides(diffusion, run.sampler(), asked)
    recipe = run.recipe
    diffusion.family.check_sampling(recipe.sampling_steps, recipe.sampler)
    if check_model := getattr(load_method(recipe.method), "check_model", None):
        check_model(recipe.config, diffusion)


def check_settings(run: Run) -> None:
    """Refuses what can't work with any model, before anything is made.

    Raises:
        UserError: a concept that is its own anchor; a package that is not installed; several
            concepts that don't go together, or with the settings.
    """
    recipe = run.recipe
    run.pairs()
    if recipe.optimizer == "adam8bit" and find_spec("bitsandbytes") is None:
        raise UserError(
            "--optimizer adam8bit needs bitsandbytes: pip install -e '.[8bit]' in the "
            "clone, or use adam."
        )
    for role in ("forget", "retain"):
        if run.sources.folder(role) and role not in run.roles():
            raise UserError(
                f"--{role}-folder has no effect: {recipe.name} does not train on {role} "
                "images. Leave it out, or choose another --recipe."
            )
    if check_method := getattr(load_method(recipe.method), "check", None):
        check_method(recipe.config, len(run.targets))
    check_memory = getattr(load_method(recipe.method), "check_memory", None)
    if check_memory and recipe.low_memory:
        check_memory(recipe.config)
    if len(run.targets) == 1:
        return
    each = [target.pairs() for target in run.targets]
    for i, own in enumerate(each):
        for j, other in enumerate(each[:i]):
            if shared := {c for c, _ in own} & {c for c, _ in other}:
                one, two = (target.concept.name for target in (run.targets[j], run.targets[i]))
                if one == two:
                    raise UserError(f"The concept {one} was given twice: give each once.")
                raise UserError(
                    f"'{one}' and '{two}' are asked for by the same prompt, '{min(shared)}': erase "
                    "them in two runs, and add these up with erase combine."
                )
    if recipe.forget_images < len(each):
        raise UserError(
            f"--forget-images {recipe.forget_images} is less than one for each of {len(each)} "
            "concepts: ask for more."
        )
    if run.sources.forget_folder:
        raise UserError("--forget-folder holds one concept's images: give one --concept.")
    if run.recipe.mask == "random":
        raise UserError(
            "A random mask has the size of one concept's mask, and several concepts have the union "
            "of theirs: give one --concept, or another --mask."
        )
    if not load_method(recipe.method).NEEDS.anchor:
        return
    names = [target.concept.name for target in run.targets]
    for concept, anchor, _ in run.targets:
        if anchor.name in names:
            raise UserError(
                f"'{concept.name}' would become '{anchor.name}', which is to be erased too: "
                "choose another --anchor for it."
            )


def _check_batch(run: Run) -> None:
    method, size, count = run.recipe.method, run.recipe.batch_size, processes.count()
    needs, micro = load_method(method).NEEDS, run.recipe.micro_batch
    if not needs.loop:
        return
    if not needs.mean:
        if micro is not None and micro != size:
            raise UserError(
                f"The loss of {method} is computed over the whole batch and can't be split: leave "
                "out --micro-batch, or lower --batch-size."
            )
        return
    if size % count:
        raise UserError(
            f"--batch-size {size} can't be split evenly among {count} processes: choose a "
            f"multiple of {count}."
        )
    if micro is not None and size // count % micro:
        raise UserError(
            f"--micro-batch {micro} does not divide the {size // count} images of a step"
            f"{' in each process' if count > 1 else ''}: choose a divisor."
        )
