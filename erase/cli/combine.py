"""``erase combine``: one model of several runs' edits."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from erase.cli.arguments import DETERMINISTIC, DEVICE, Parser
from erase.runtime.places import short

ABOUT = "one model of what several runs erased from the same base, judged for each concept"


def parser() -> ArgumentParser:
    """The flags of ``erase combine``."""
    made = Parser(ABOUT, "erase combine RUN RUN … [options]")
    add = made.add_argument
    add("runs", type=str, nargs="+", metavar="RUN", help="folders of finished runs, at least two")
    add("--out", type=str, help="run folder (default: runs/MODEL-CONCEPTS-combined-0)")
    add(
        "--overlap",
        choices=("sum", "refuse"),
        default="sum",
        help="weights that several runs moved: sum their changes, or refuse (default: sum)",
    )
    add("--overwrite", action="store_true", help="redo the stages whose inputs changed")
    group = made.add_argument_group("computing").add_argument
    group("--device", **DEVICE)
    group("--deterministic", **DETERMINISTIC)
    return made


def run_combine(chosen: Namespace, typed: Sequence[str]) -> None:
    """Does what a parsed ``erase combine`` asks for."""
    from erase.cli.run import tell
    from erase.runs.combine import make_combination
    from erase.runs.execute import execute
    from erase.runs.folder import COMMANDS
    from erase.runs.manner import Manner
    from erase.runs.run import Compute

    how = Compute(chosen.device, chosen.deterministic)
    run = make_combination(chosen.runs, chosen.out, chosen.overlap, how)
    command = f"erase {shlex.join(map(short, typed))}"
    report = execute(
        run, list(COMMANDS), chosen.overwrite, Manner(ask_base=False, preview=0), command=command
    )
    tell(report, run.out)
