"""``erase demo`` at the command line: what it says, and what it refuses, in one sentence."""

from __future__ import annotations

import _thread
import threading
from pathlib import Path

import pytest

from erase.cli.main import main
from erase.demo.judging import Jury
from erase.demo.show import Column, Show
from erase.diffusion.model import Diffusion
from erase.images.request import Sampler


@pytest.mark.parametrize(
    ("argv", "wrong"),
    [
        ((), "no finished run below runs: make one by 'erase run --concept church'"),
        (("runs/none",), "runs/none is not a run folder"),
        (("--port", "70000", "x"), "--port 70000 is out of range"),
        (("--port", "many", "x"), "many"),
    ],
)
def test_mistakes(
    argv: tuple[str, ...],
    wrong: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["demo", *(argv if "--port" in argv else (*argv, "--port", "0"))])
    assert caught.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert wrong in line


def test_it_says_where_the_page_is_and_who_may_see_it_until_ctrl_c(
    tiny: Diffusion, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    column = Column("tiny", "the base model", tiny)
    show = Show((column,), Sampler(), Jury((), (), (), (), veiled=False), ())
    asked: list[object] = []
    monkeypatch.setattr("erase.demo.show.open_show", lambda *given: asked.extend(given) or show)
    monkeypatch.setattr(
        "erase.demo.server.Server.serve_forever",
        lambda server: threading.Timer(0, _thread.interrupt_main).run(),
    )
    argv = ["runs/church", "runs/radio", "--port", "0", "--sampling-steps", "7", "--device", "cpu"]
    main(["demo", *argv, "--host", "0.0.0.0"])
    assert asked == [[Path("runs/church"), Path("runs/radio")], "cpu", 7]
    out, err = capsys.readouterr()
    assert out.startswith("tiny: http://0.0.0.0:")
    assert out.endswith("(Ctrl-C ends it)\nEnded.\n")
    assert "whoever can reach 0.0.0.0 may use this page" in err
    assert "there is no password" in err
    main(["demo", *argv])
    assert capsys.readouterr().err == ""
