"""From the command line's flags to the objects that runs are made of."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from erase.methods import list_methods
from erase.recipes.recipe import flags
from erase.runtime.errors import UserError

if TYPE_CHECKING:
    from erase.eval.instruments.choice import Instruments
    from erase.runs.attacks.of_run import Attacks
    from erase.runs.manner import Manner
    from erase.runs.run import Compute, Run, Sources


def recipe_values(options: Namespace) -> dict[str, Any]:
    """The recipe values given as flags."""
    names = {f.name for m in list_methods() for f in flags(m)} - {"name", "method"}
    return {n: options[n] for n in sorted(names) if options.get(n) is not None}


def instruments(options: Namespace, before: Run | None = None) -> Instruments:
    """What the flags name, or an earlier command did."""
    from erase.eval.instruments.choice import UNNAMED

    named = {k: options[k] for k in ("judge", "clip", "features", "lpips") if options[k]}
    found = replace(before.instruments if before else UNNAMED, **named)
    counted = {k: v for k, v in vars(options.nudity).items() if v is not None}
    if not counted:
        return found
    from erase.eval.instruments.nudenet import Config

    return replace(found, nudity=replace(found.nudity or Config(), **counted))


def compute(options: Namespace, before: Run | None = None) -> Compute:
    """As the flags say, or said for an earlier command."""
    from erase.runs.run import AUTO, Compute

    earlier = before.compute if before else AUTO
    return Compute(
        device=options.device,
        deterministic=options.deterministic,
        channels_last=options.channels_last or earlier.channels_last,
        compiled=options.compile or earlier.compiled,
    )


def sources(options: Namespace) -> Sources:
    """What the flags name."""
    from erase.runs.run import Sources

    return Sources(
        forget_folder=Path(options.forget_folder) if options.forget_folder else None,
        retain_folder=Path(options.retain_folder) if options.retain_folder else None,
        retain=options.retain,
        neighbours=options.neighbours,
    )


def manner_of(options: Namespace) -> Manner:
    from erase.runs.manner import PREVIEW, Manner

    preview = options.get("preview")
    return Manner(
        anyway=bool(options.get("anyway")),
        preview=PREVIEW if preview is None else preview,
        tracker=options.get("tracker"),
    )


def attacks_of(options: Namespace) -> Attacks | None:
    """What the flags ask to be tried on the erased model; None for nothing.

    Raises:
        UserError: a budget or a floor without attacks.
    """
    from erase.runs.attacks.of_run import Attacks

    if not options.attacks:
        for flag in ("budget", "floor"):
            if options[flag] is not None:
                raise UserError(f"--{flag} has no effect without --attacks: leave it out.")
        return None
    return Attacks(attack_names(options.attacks), options.budget or "quick", options.floor)


def attack_names(given: Sequence[str] | None) -> tuple[str, ...]:
    """The attacks asked for; () are all, which "all" says too."""
    asked = tuple(names(given))
    return () if asked == ("all",) else asked


def strength_of(model: str, base: str | None, strength: float | None) -> float | None:
    """How strongly a file of what an erasure changed, such as a LoRA, is applied to its base; None
    where ``model`` is a whole one.

    Raises:
        UserError: such a file without a base, or a strength that a whole model has no use for.
    """
    from erase.formats import format_of

    path = Path(model).expanduser()
    # A pickle is read in full to see what it is: only where something beside it says that it may
    # be no whole model.
    told = path.suffix == ".safetensors" or base is not None or strength is not None
    form = format_of(path) if told and path.is_file() else None
    if form is None or form.WHOLE:
        if strength is not None:
            raise UserError("--strength has no effect on a whole model: leave it out.")
        return None
    if base is None:
        raise UserError(f"{model} is a {form.NAME}: add --base, the model that it was made from.")
    return 1.0 if strength is None else strength


def at_strength(strength: float | None) -> str:
    """What tells the folders of an edit's strengths apart; nothing for a whole edit."""
    return "" if strength in (None, 1.0) else f"-at-{strength:g}".replace(".", "-")


def names(given: Sequence[str] | None) -> list[str]:
    """Names by commas, as in a CSV file: one that holds a comma stands in double quotes."""
    rows = csv.reader(given or [], skipinitialspace=True)
    return [name.strip() for row in rows for name in row if name.strip()]


def one_or_more(given: list[str] | None) -> str | list[str] | None:
    """A flag that may be given several times: its value, or a list of several."""
    return given[0] if given and len(given) == 1 else given
