"""Prompts as the model reads them: what is cut off, and what is the same after the cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from erase.images.captions import captions
from erase.images.files import image_files
from erase.methods import load_method
from erase.runtime.errors import UserError, clipped

if TYPE_CHECKING:
    from erase.diffusion.families import Reader
    from erase.runs.run import Run


def check_prompts(run: Run, reader: Reader) -> None:
    """Refuses concepts whose words the model would never read, or read as something else.

    Raises:
        UserError: a concept or an anchor that is cut off; a concept that reads as its anchor or
            as another concept.
    """
    needs_anchor = load_method(run.recipe.method).NEEDS.anchor
    taken: set[object] = set()
    for target in run.targets:
        name = clipped(target.concept.name)
        prompts, becomes = ([p[i] for p in target.pairs()] for i in (0, 1))
        for prompt in prompts:
            _check_read(reader, prompt, target.concept.word)
        for prompt in becomes if needs_anchor else ():
            _check_read(reader, prompt, target.anchor.word)
        ours, theirs = reader.ids(prompts), reader.ids(becomes)
        if any(c == a for c, a in zip(ours, theirs, strict=True)):
            raise UserError(
                f"To the model, the anchor reads the same as the concept ('{name}'): choose "
                "another --anchor."
            )
        if taken & set(ours):
            raise UserError(
                f"To the model, '{name}' reads the same as another of the concepts: give each once."
            )
        taken |= set(ours)


def _check_read(reader: Reader, prompt: str, word: str) -> None:
    if reader.reads(prompt, word):
        return
    length = reader.length
    if word == prompt:
        raise UserError(
            f"'{clipped(prompt)}' is longer than the {length} tokens that the model reads of a "
            "prompt: shorten it."
        )
    raise UserError(
        f"The word '{clipped(word)}' is not within the {length} tokens that the model reads of the "
        f"prompt '{clipped(prompt)}': shorten the prompt."
    )


def training_prompts(run: Run) -> dict[str, list[str]]:
    """The prompts that the run trains on, by what they are for."""
    needs = load_method(run.recipe.method).NEEDS
    if not needs.trains:
        return {}
    found = {"concept": [c for c, _ in run.pairs()]}
    if needs.anchor:
        found["anchor"] = [a for _, a in run.pairs()]
    if "retain" in run.roles() or not needs.loop:
        found["retained"] = run.retain_prompts()
    own = run.sources.retain_folder
    if own is not None and "retained" in found:
        found["retained"] += [text for text in captions(own, image_files(own)) if text]
    return found


def cut_off(reader: Reader, prompts: Mapping[str, Iterable[str]]) -> str | None:
    """What the model does not read to the end, in one sentence; None where it reads all.

    Args:
        reader: the model's.
        prompts: by what they are for.
    """
    found = {kind: reader.cut(dict.fromkeys(own)) for kind, own in prompts.items()}
    counts = [
        f"{len(own)} {kind} prompt{'s' if len(own) > 1 else ''}"
        for kind, own in found.items()
        if own
    ]
    if not counts:
        return None
    first = next(own[0] for own in found.values() if own)
    length = reader.length
    return (
        f"the model reads only {length} tokens of a prompt; it cuts off the end of "
        f"{' and '.join(counts)}: '{clipped(first)}'"
    ) + (" and others." if sum(map(len, found.values())) > 1 else ".")
