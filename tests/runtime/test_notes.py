from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from erase.cli.main import main
from erase.runtime.notes import Note, note, own_words
from tests.tiny import tiny_sd

# What libraries say on some machines is made to happen on every one: bitsandbytes' line about its
# kernels, Python's warnings with their paths, and logs without a handler.
NOISE = """
import logging, sys, warnings
import erase.images.request as sampling
def noisy(*args, _of=sampling.Sampler.__init__, **kwargs):
    warnings.warn("Detected pickle protocol 4 in the checkpoint")
    logging.getLogger("bitsandbytes.backends.cpu.ops").warning("Failed to load CPU gemm_4bit")
    logging.getLogger("diffusers.pipelines").warning("a note of diffusers")
    _of(*args, **kwargs)
sampling.Sampler.__init__ = noisy
from erase.cli.main import main
main(sys.argv[1:])
"""


def said(*argv: str, cwd: Path, python: tuple[str, ...] = ()) -> list[str]:
    """The lines of stderr of a command in a process of its own, without progress bars."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, *python, "-c", NOISE, *argv],
        cwd=cwd,
        env=env | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.replace("\r", "\n").split("\n")
    return [line for line in lines if line.strip() and "%|" not in line and " so far, " not in line]


@pytest.mark.slow
def test_a_commands_stderr_holds_our_sentences_alone(tmp_path: Path) -> None:
    model = tiny_sd(tmp_path / "tiny")
    (tmp_path / "set.csv").write_text("prompt,seed,steps\na church,1,50\n,2,50\n")
    make = ("generate", "--model", str(model), "--set", "set.csv", "--sampling-steps", "2")
    lines = said(*make, "--out", "images", cwd=tmp_path)
    assert len(lines) == 1 and lines[0].startswith("erase: The prompt set set.csv has the column")
    judge = ("--images", "images", "--set", "set.csv", "--metrics", "nudity", "--out", "report")
    assert said("eval", *judge, cwd=tmp_path) == lines
    # Whoever asks Python for warnings gets them.
    loud = said(*make, "--out", "more", cwd=tmp_path, python=("-W", "default"))
    assert any("Detected pickle protocol" in line for line in loud)


def test_notes_are_sentences_and_libraries_are_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])
    before = warnings.showwarning
    with own_words():
        for _ in range(2):
            warnings.warn("x is of an unusual size.", Note, stacklevel=1)
            warnings.warn("a path/to/library.py:7", UserWarning, stacklevel=1)
            logging.getLogger("some.package").warning("Failed to load")
            note("a judge's weights are of an unknown kind.")
    assert capsys.readouterr().err == (
        "erase: x is of an unusual size.\nerase: a judge's weights are of an unknown kind.\n"
    )
    assert warnings.showwarning is before


def test_a_commands_own_mistakes_are_still_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["generate", "--set", "nothing.csv", "--prompt", "x"])
    assert capsys.readouterr().err.startswith("erase: --prompt and --set")
