"""Prompts longer than the model reads: told once, or refused where what matters is cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from erase.cli.main import main
from erase.diffusion.model import Diffusion
from erase.runs.checks import check
from erase.runs.make import make_run
from erase.runs.run import Sources
from erase.runs.wording import cut_off
from erase.runtime.errors import UserError
from tests.tiny import tiny_sdxl

LONG = "so " * 75  # with start and end, all that 77 tokens hold


def refusal(d: Diffusion, concept: str, anchor: str | None, recipe: str) -> str:
    run = make_run("m", concept, anchor, recipe)
    with pytest.raises(UserError) as refused:
        check(run, d)
    assert len(str(refused.value)) <= 300
    return str(refused.value)


def test_token_ids_end_at_77_for_every_tokenizer(tmp_path: Path, tiny: Diffusion) -> None:
    xl = Diffusion.load(str(tiny_sdxl(tmp_path / "xl")))
    for d, encoders in ((tiny, 1), (xl, 2)):
        one, other, brief = d.text.ids([f"{LONG}church", f"{LONG}truck", "a church"])
        assert one == other and one != brief
        assert [len(ids) for ids in one] == [77] * encoders
        assert [len(ids) for ids in brief] == [4] * encoders
        # 76 words and the two ends are 78 tokens.
        assert d.text.cut([LONG, f"{LONG}church", "a"]) == [f"{LONG}church"]
        assert d.text.reads(f"a church {LONG}", "Church")
        assert not d.text.reads(f"{LONG}church", "church")


@pytest.mark.parametrize("recipe", ["salun-sd", "esd-x", "uce", "ca"])
def test_what_the_model_reads_as_one_is_refused(tiny: Diffusion, recipe: str) -> None:
    assert "tokens that the model reads" in refusal(
        tiny, f"{LONG}of a church", f"{LONG}of a truck", recipe
    )
    said = refusal(tiny, f"{LONG}[church]", f"{LONG}truck", recipe)
    assert said.startswith("The word 'church' is not within the")
    # CLIP reads no capitals.
    said = refusal(tiny, "a photo of a [Church]", "a photo of a church", recipe)
    assert "the anchor reads the same as the concept" in said


def test_an_anchor_that_is_cut_off_is_refused_where_it_is_used(tiny: Diffusion) -> None:
    for anchor in (f"{LONG}a truck", f"a photo {LONG} of a [truck]"):
        assert "so so" in refusal(tiny, "a church", anchor, "salun-sd")
        check(make_run("m", "a church", anchor, "esd-x"), tiny)


def test_concepts_are_told_apart_as_they_are_read(tiny: Diffusion) -> None:
    run = make_run("m", ["a Church", "a church"], "a truck", "salun-sd")
    with pytest.raises(UserError, match="'a church' reads the same as another of the concepts"):
        check(run, tiny)


def test_a_cut_is_told_once_with_a_count(
    tiny: Diffusion, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cut_off(tiny.text, {"concept": ["a church"], "retained": []}) is None
    kept = tmp_path / "kept.csv"
    rows = ["a dog", *(f"{LONG}{animal}" for animal in ("cat", "hen", "cat"))]
    kept.write_text("\n".join(["prompt", *rows]) + "\n")
    run = make_run(
        "m", f"a [church] {LONG}", "a truck", "salun-sd", sources=Sources(retain=str(kept))
    )
    check(run, tiny)
    line, few = capsys.readouterr().err.splitlines()
    assert "Fewer than 8 retained prompts are left" in few
    assert line.startswith(
        "erase: the model reads only 77 tokens of a prompt; it cuts off the end of"
    )
    assert "1 concept prompt and 2 retained prompts: 'a church so so" in line and len(line) < 300
    argv = ["generate", "--model", str(tiny_folder), "--set", str(kept), "--out"]
    argv += [str(tmp_path / "made"), "--size", "16", "--sampling-steps", "1"]
    main(argv)
    assert capsys.readouterr().err.count("the end of 2 given prompts: 'so so") == 1
