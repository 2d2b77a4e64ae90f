"""``erase push``: a run's model on the hub, with its figures."""

from __future__ import annotations

import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from erase.cli.arguments import Parser
from erase.runtime.errors import UserError
from erase.runtime.words import counted

ABOUT = "send a run's model to the Hugging Face hub, with its card, figures and recipe"


def parser() -> ArgumentParser:
    """The flags of ``erase push``."""
    made = Parser(ABOUT, "erase push RUN OWNER/NAME [options]")
    add = made.add_argument
    add("run", type=str, help="a finished run folder")
    add("repo", type=str, help="the model's name on the hub, OWNER/NAME; made if it is not there")
    add("--public", action="store_true", help="let anybody see it (default: private)")
    add(
        "--create-pr",
        action="store_true",
        help="open a pull request on a repository that exists, instead of changing it",
    )
    add(
        "--base-model",
        metavar="OWNER/NAME",
        help="hub id of the base model, for the card, where the run took it from a file or folder",
    )
    add("--overwrite", action="store_true", help="replace what a repository of yours holds")
    add("--unevaluated", action="store_true", help="push a model of which UA was not measured")
    add("--yes", action="store_true", help="send without asking")
    return made


def run_push(chosen: Namespace) -> None:
    """Does what a parsed ``erase push`` asks for.

    Raises:
        UserError: nothing that may be sent, nobody to ask, or a hub that does not take it.
    """
    from erase.runs.push import amount, open_run, pack, send, told

    if chosen.create_pr and chosen.overwrite:
        raise UserError("--create-pr and --overwrite can't be combined: give one of them.")
    run = open_run(Path(chosen.run), chosen.unevaluated)
    with run.lock():
        parcel = pack(
            run,
            chosen.repo,
            public=chosen.public,
            proposes=chosen.create_pr,
            overwrite=chosen.overwrite,
            base=chosen.base_model,
        )
        if not parcel.files and not parcel.stale:
            print(f"{chosen.repo} holds all of it already: nothing was sent.")
            return
        print(told(parcel))
        what = f"{counted(len(parcel.files), 'file')}, {amount(parcel.size)}"
        seen = "public" if chosen.public else "private"
        if not chosen.yes and not _agreed(f"Send {what}, to {chosen.repo} ({seen})? [y/N] "):
            print("Nothing was sent.")
            return
        if not sys.stderr.isatty():
            from huggingface_hub.utils.tqdm import disable_progress_bars

            disable_progress_bars()
        print(f"Sent {what}: {send(parcel)}")


def _agreed(question: str) -> bool:
    """Whether the user says yes.

    Raises:
        UserError: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise UserError("Nothing was sent, since there is no terminal to ask you on: add --yes.")
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False
