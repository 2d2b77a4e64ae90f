"""``erase demo``: a page on which prompts are tried on the base and on what was erased from it."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from erase.cli.arguments import DEVICE, Parser

ABOUT = "try prompts on a page: the base and erased models side by side, from one noise"
RUNS = Path("runs")
"""Where the newest run is looked for."""
PORT = 8000


def parser() -> ArgumentParser:
    """The flags of ``erase demo``."""
    made = Parser(ABOUT, "erase demo [RUN …] [options]")
    add = made.add_argument
    add(
        "runs",
        type=str,
        nargs="*",
        metavar="RUN",
        help=f"run folders of one base, a column each (default: the newest one below {RUNS})",
    )
    add("--port", type=int, default=PORT, help=f"0 to 65535; 0 is a free one (default: {PORT})")
    add(
        "--host",
        type=str,
        default="127.0.0.1",
        help="address to listen at; another than the default lets others in, without a password "
        "(default: 127.0.0.1, this machine alone)",
    )
    add("--sampling-steps", type=int, help="denoising steps, >= 1 (default: the run's)")
    add("--device", **DEVICE)
    return made


def run_demo(chosen: Namespace) -> None:
    """Does what a parsed ``erase demo`` asks for, until Ctrl-C.

    Raises:
        UserError: no run, or an address that can't be listened at.
    """
    from erase.demo.page import page_of
    from erase.demo.server import Server, is_local
    from erase.demo.show import newest_run, open_show
    from erase.runtime.notes import note

    folders = [Path(run) for run in chosen.runs] or [newest_run(RUNS)]
    with Server(chosen.host, chosen.port) as server:
        show = open_show(folders, chosen.device, chosen.sampling_steps)
        if not is_local(chosen.host):
            note(
                f"whoever can reach {chosen.host} may use this page and these models, nudity "
                "included: there is no password, and nothing is encrypted."
            )
        names = ", ".join(column.title for column in show.columns)
        print(f"{names}: {server.url} (Ctrl-C ends it)", flush=True)
        server.run(show, page_of(show))
    print("Ended.")
