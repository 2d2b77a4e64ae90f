"""The code that is printed runs as it stands, whatever precision the base is stored in."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from erase.commands import execute
from erase.task import make_task
from tests.tiny import tiny_sd

QUICK = {
    "sampling_steps": 1, "sampling_batch": 4, "eval_forget": 1, "eval_retain": 1,
    "eval_general": 0, "eval_empty": 0,
}  # fmt: skip


def python_in(card: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_snippets_of_report_and_card(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, run = tiny_sd(tmp_path / "base", dtype=dtype), tmp_path / "run"
    task = make_task(str(base), "a church", "a truck", "uce", out=run, overrides=QUICK)
    execute(task, ("images", "mask", "train", "generate", "eval"))
    shown: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image))
    page = html.unescape((run / "report.html").read_text(encoding="utf-8"))
    [snippet] = re.findall(r"<pre><code>(from diffusers.*?)</code></pre>", page, re.DOTALL)
    exec(snippet, {})
    assert [image.size for image in shown] == [(16, 16)]

    place = tmp_path / "path" / "to" / "this"
    place.mkdir(parents=True)
    (place / "folder").symlink_to(run / "model")
    monkeypatch.chdir(tmp_path)
    [snippet] = python_in(run / "model" / "README.md")
    names: dict[str, object] = {}
    exec(snippet, names)
    pipeline: object = names["pipeline"]
    [image] = pipeline("a truck", num_inference_steps=1).images  # type: ignore[operator]
    assert image.size == (16, 16)
