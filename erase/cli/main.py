"""The command line: parses it, and hands each command to its module."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence

from jsonargparse import Namespace

from erase.cli.attack import run_attack
from erase.cli.classifier import run_classifier
from erase.cli.combine import run_combine
from erase.cli.compare import compare, tune
from erase.cli.demo import run_demo
from erase.cli.export import run_export
from erase.cli.options import instruments, recipe_values
from erase.cli.parser import asked_about, build_parser
from erase.cli.push import run_push
from erase.cli.run import run_stages
from erase.eval.report.requirements import RequirementError, check_folders, parse
from erase.runs.folder import model_of
from erase.runtime import processes
from erase.runtime.errors import UserError
from erase.runtime.files import is_text
from erase.runtime.notes import own_words


def main(argv: Sequence[str] | None = None) -> None:
    """Parses and runs; a user's mistake is one sentence and exit code 2, a requirement that is not
    met exit code 3."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        command = next((word for word in args if not word.startswith("-")), "")
        parser = build_parser(asked_about(args), command == "export", command)
        _refuse_undecoded(args)
        options = parser.parse_args(args)
        _refuse_empty(options)
        with own_words():
            dispatch(options, args)
        processes.leave()
    except UserError as error:
        processes.let_the_first_speak()
        print(f"erase: {error}", file=sys.stderr)
        sys.exit(2)
    except RequirementError as error:
        if processes.is_main():
            print("\n".join(f"erase: {line}" for line in str(error).splitlines()), file=sys.stderr)
        processes.leave()
        sys.exit(3)
    except BrokenPipeError:
        # Who reads the output has seen enough, as `head` has; what is left to print is nobody's.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"erase: {error}: choose a place that can be read and written.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("erase: interrupted; run the same command again to resume.", file=sys.stderr)
        sys.exit(130)


MAY_BE_EMPTY = ("anchor", "prompt")
"""Flags to which the empty prompt may be given."""


def _refuse_undecoded(args: Sequence[str]) -> None:
    """
    Raises:
        UserError: an argument is not text.
    """
    for word in args:
        if not is_text(word):
            shown = word.encode("utf-8", "replace").decode()
            raise UserError(f"'{shown}' is not UTF-8 text: rename the file, or write it in UTF-8.")


def _refuse_empty(options: Namespace) -> None:
    """Refuses what an unset variable of a shell leaves of a flag: it would count as not given.

    Raises:
        UserError: naming the flag.
    """
    chosen = options[options.command]
    if "subcommand" in chosen:
        chosen = chosen[chosen.subcommand]
    for name, value in vars(chosen.as_flat()).items():
        given = value if isinstance(value, list) else [value]
        if name not in MAY_BE_EMPTY and any(one == "" for one in given):
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} is empty: give it a value, or leave it out.")


WITH_RUNS: Mapping[str, Callable[[Namespace, Sequence[str]], None]] = {
    "classifier": run_classifier,
    "attack": run_attack,
    "combine": run_combine,
    "push": lambda chosen, _: run_push(chosen),
    "demo": lambda chosen, _: run_demo(chosen),
}
"""Commands that look themselves at the run folders they are given."""


def dispatch(options: Namespace, typed: Sequence[str]) -> None:
    """Runs a parsed command.

    Args:
        options: parsed.
        typed: as the user wrote it, to be repeated in what is written.
    """
    command = options.command
    chosen: Namespace = options[command]
    if command in ("compare", "tune", "export", "combine", "push", "demo"):
        processes.refuse_several()
    if command in WITH_RUNS:
        WITH_RUNS[command](chosen, typed)
        return
    for key in ("model", "source", "base"):
        if chosen.get(key):
            chosen[key] = model_of(chosen[key])
    if command == "list":
        from erase.cli.listing import CLASSES, listing

        if chosen.model and chosen.what != CLASSES:
            raise UserError("--model has no effect but with 'erase list classes': leave it out.")
        print(listing(chosen.what, chosen.model))
    elif command == "export":
        run_export(chosen)
    elif command == "compare":
        compare(chosen, f"erase {shlex.join(typed)}")
    elif command == "tune":
        tune(chosen, f"erase {shlex.join(typed)}")
    elif command == "generate" and chosen.prompt is not None and chosen.set is not None:
        raise UserError("--prompt and --set can't be combined: give one of them.")
    elif command == "generate" and chosen.prompt is not None:
        from erase.cli.generate import quick_look

        quick_look(chosen, recipe_values(chosen))
    elif command == "generate" and chosen.set is not None:
        from erase.cli.generate import sample_set

        sample_set(chosen, recipe_values(chosen))
    elif command == "eval" and chosen.images:
        from erase.cli.evaluate import measure_images

        required = parse(chosen.require) if chosen.require is not None else {}
        text, result = measure_images(chosen, recipe_values(chosen), instruments(chosen))
        if processes.is_main():
            print(text)
        check_folders(result, required)
    else:
        run_stages(command, chosen, typed)
