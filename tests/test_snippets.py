"""The code that is printed runs as it stands, whatever precision the base is stored in."""

from __future__ import annotations

import html
import json
import re
import shlex
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from erase.cli.main import main
from erase.runs.execute import execute
from erase.runs.make import make_run
from tests.tiny import tiny_sd

QUICK = {
    "sampling_steps": 1, "sampling_batch": 4, "eval_forget": 1, "eval_retain": 1,
    "eval_general": 0, "eval_empty": 0,
}  # fmt: skip


def python_in(card: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(
    ("dtype", "stated"),
    [
        (torch.float16, True),
        (torch.float16, False),  # as inferred for a single file
        (torch.bfloat16, True),
        (torch.float32, True),
    ],
)
def test_the_snippets_of_report_and_card(
    dtype: torch.dtype, stated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, run = tiny_sd(tmp_path / "base", dtype=dtype), tmp_path / "run"
    if not stated:
        file = base / "text_encoder/config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in config.items() if "dtype" not in k}))
    asked = make_run(str(base), "a church", "a truck", "uce", out=run, overrides=QUICK)
    execute(asked, ("images", "mask", "train", "generate", "eval"))
    shown: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image))
    monkeypatch.chdir(tmp_path)
    page = html.unescape((run / "report.html").read_text(encoding="utf-8"))
    folder, file = re.findall(r"<pre><code>(from diffusers.*?)</code></pre>", page, re.DOTALL)
    torch.manual_seed(0)
    exec(folder, {})
    [export] = re.findall(r"<pre><code>erase (export .*?)</code></pre>", page)
    main(shlex.split(export))
    torch.manual_seed(0)
    exec(file, {})
    assert [image.size for image in shown] == [(16, 16)] * 2
    assert np.abs(np.asarray(shown[0], int) - np.asarray(shown[1], int)).max() <= 1

    place = tmp_path / "path" / "to" / "this"
    place.mkdir(parents=True)
    (place / "folder").symlink_to(run / "model")
    [snippet] = python_in(run / "model" / "README.md")
    names: dict[str, object] = {}
    exec(snippet, names)
    pipeline: object = names["pipeline"]
    [image] = pipeline("a truck", num_inference_steps=1).images  # type: ignore[operator]
    assert image.size == (16, 16)


def test_the_snippet_of_the_bundled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[1]
    monkeypatch.chdir(root)
    text = (root / "mini/weights/model/README.md").read_text(encoding="utf-8")
    snippet = textwrap.dedent("\n".join(re.findall(r"^    .*$", text, re.MULTILINE)))
    names: dict[str, object] = {}
    exec(snippet.replace("pipe(", "image = pipe("), names)
    image = names["image"]
    assert isinstance(image, Image.Image) and image.size == (64, 64)
