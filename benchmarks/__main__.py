"""All benchmarks one after the other, and ``RESULTS.md`` from what they found:
``python -m benchmarks``.

Each program's figures are kept in ``benchmarks/measured/``, one file a program and device, with the
machine that they are of; a program that is run again replaces its own alone. ``--device cuda``
measures what needs a GPU. What has no file reads "not measured" in ``RESULTS.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import torch

HERE = Path(__file__).parent
MEASURED = HERE / "measured"
PROGRAMS = {
    "cpu": ("mask", "saliency", "eval", "salun", "robust", "sizes"),
    "cuda": ("salun", "robust", "classifier"),
}


def machine(device: str) -> dict[str, Any]:
    """The machine that the figures were measured on."""
    found = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return found | ({"card": torch.cuda.get_device_name()} if device == "cuda" else {})


def run(name: str, device: str) -> dict[str, Any]:
    """One program's figures, which it prints as JSON in its last line.

    Raises:
        SystemExit: it failed.
    """
    more = ["--device", device] if device != "cpu" else []
    command = [sys.executable, "-m", f"benchmarks.{name}", *more]
    print(f"$ python {' '.join(command[1:])}", flush=True)
    lines = []
    with subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            if not line.startswith("{"):
                print(line, end="", flush=True)
    if process.returncode:
        sys.exit(f"benchmarks.{name} failed.")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def render() -> str:
    """``RESULTS.md`` of everything that is in ``measured/``."""
    found = {f.stem: json.loads(f.read_text(encoding="utf-8")) for f in MEASURED.glob("*.json")}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown
    )
    return environment.get_template("RESULTS.md.j2").render(found=found)


def main() -> None:
    """Runs what was asked for and writes ``RESULTS.md``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", default="cpu", choices=tuple(PROGRAMS))
    parser.add_argument("--only", nargs="*", help="names of programs; none only writes RESULTS.md")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: torch sees no GPU.")
    MEASURED.mkdir(exist_ok=True)
    for name in PROGRAMS[args.device]:
        if args.only is not None and name not in args.only:
            continue
        facts = {"machine": machine(args.device), **run(name, args.device)}
        file = MEASURED / f"{name}-{args.device}.json"
        file.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (HERE / "RESULTS.md").write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
