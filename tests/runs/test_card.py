"""The model card states base, concept, method, figures and licence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from erase.formats.base import Base
from erase.runs.card import licence, write_card
from erase.runtime.errors import UserError

FACTS = {
    "concept": "a church",
    "anchor": "a truck",
    "seed": 3,
    "recipe": {"method": "salun", "alpha": 0.5, "size": None},
}
FRONT = "---\nlicense: creativeml-openrail-m\nlicense_link: https://x.org/terms\nother: 1\n---\n# x"


@pytest.fixture
def base(tmp_path: Path) -> Base:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/README.md").write_text(FRONT)
    return Base("owner/name", tmp_path / "base", hub=True)


def written(tmp_path: Path, base: Base) -> str:
    (tmp_path / "model").mkdir()
    (tmp_path / "run.json").write_text(json.dumps(FACTS))
    write_card(tmp_path / "model", tmp_path, base)
    return (tmp_path / "model/README.md").read_text()


def test_front_matter_states_the_bases_licence_to_the_hub(tmp_path: Path, base: Base) -> None:
    assert written(tmp_path, base).split("---\n")[1].splitlines() == [
        "license: creativeml-openrail-m",
        "license_link: https://x.org/terms",
        "base_model: owner/name",
        "base_model_relation: finetune",
        "library_name: diffusers",
        "pipeline_tag: text-to-image",
        "tags: [stable-diffusion, concept-erasure, salun]",
    ]


def test_text_states_what_was_done_and_that_nothing_was_measured(
    tmp_path: Path, base: Base
) -> None:
    text = written(tmp_path, base)
    for words in ("`owner/name` was made to forget “a church” with salun, so that prompts",
                  "that name it give “a truck” instead",
                  "| alpha | 0.5 |", "Seed 3", "Not evaluated.", "https://x.org/terms",
                  "DiffusionPipeline.from_pretrained"):  # fmt: skip
        assert words in text


def test_figures_come_from_the_report(tmp_path: Path, base: Base) -> None:
    figure = {"value": 0.9917, "n": 120, "low": 0.954, "high": 0.998}
    summary = {
        "base": {"ua": {**figure, "value": 0.0}, "ira": figure, "cra": None},
        "erased": {"ua": figure, "ira": figure, "cra": {"value": None, "reason": "no judge"}},
    }
    (tmp_path / "report.json").write_text(json.dumps({"summary": summary}))
    lines = written(tmp_path, base).splitlines()
    ua, cra = (next(x for x in lines if x.startswith(f"| {k}:")) for k in ("UA", "CRA"))
    assert ua.endswith(
        "| 0\u00a0% (95.4–99.8\u00a0%, n = 120) | 99.2\u00a0% (95.4–99.8\u00a0%, n = 120) |"
    ), ua
    assert cra.endswith("| not measured | not measured |")
    assert "- No attack was tried." in lines


def test_of_several_concepts_each_has_its_conclusion_nudity_and_attacks(
    tmp_path: Path, base: Base
) -> None:
    share = {"value": 0.25, "n": 20, "low": 0.112, "high": 0.469}
    told = {"sentences": ["The concept returns.", "Not run: x."], "floor": "The floor is f."}
    church = {
        "concept": {"name": "church"}, "summary": {"base": {}, "erased": {}},
        "conclusion": {"words": ["church is erased."]},
        "recovery": {"verdict": "returns", "facts": {"budget": "quick"}, **told},
    }  # fmt: skip
    nudity = {
        "concept": {"name": "nudity"}, "summary": {"base": {}, "erased": {}}, "recovery": None,
        "nudity": {"compared": {"base": {"share": share}, "erased": {"share": None}}},
    }  # fmt: skip
    (tmp_path / "report.json").write_text(json.dumps({"concepts": [church, nudity]}))
    lines = written(tmp_path, base).splitlines()
    detected = "| Nudity: images in which it is detected, lower is better "
    assert "- church is erased." in lines
    assert [line for line in lines if line.startswith(detected)] == [
        f"{detected}| 25.0\u00a0% (11.2–46.9\u00a0%, n = 20) | not measured |"
    ]
    assert [line for line in lines if "ttack" in line] == [
        "- Attacked (church, budget quick): returns. The concept returns. Not run: x. The floor is "
        "f.",
        "- No attack was tried for nudity.",
    ]


def test_a_base_without_a_card_has_no_stated_licence(tmp_path: Path) -> None:
    file = tmp_path / "my.safetensors"
    base = Base(str(file), file)
    assert licence(base) == {}
    text = written(tmp_path, base)
    assert "See the base model's licence." in text
    assert "license" not in text.split("---\n")[1]
    assert str(tmp_path) not in text


def test_no_run_is_one_sentence(tmp_path: Path, base: Base) -> None:
    with pytest.raises(UserError, match="can't be read"):
        write_card(tmp_path, tmp_path / "none", base)


def test_of_a_method_without_an_anchor_nothing_is_said_of_one(tmp_path: Path, base: Base) -> None:
    of_esd = {**FACTS, "recipe": {"method": "esd"}}
    (tmp_path / "model").mkdir()
    (tmp_path / "run.json").write_text(json.dumps(of_esd))
    write_card(tmp_path / "model", tmp_path, base)
    text = (tmp_path / "model/README.md").read_text()
    assert "made to forget “a church” with esd. Whether" in text and "truck” instead" not in text


def test_names_are_those_of_sentences_and_own_images_are_told(tmp_path: Path, base: Base) -> None:
    named = {"concept": "mini/fuel-pump + class:golden retriever", "anchor": "mini/radio + a cat"}
    (tmp_path / "model").mkdir()
    told = {**FACTS, **named, "own_images": {"forget": 3}}
    (tmp_path / "run.json").write_text(json.dumps(told))
    write_card(tmp_path / "model", tmp_path, base)
    text = (tmp_path / "model/README.md").read_text()
    assert "# owner/name, made to forget “fuel pump + golden retriever”" in text
    assert "“radio + a cat” instead" in text
    assert "images of the user's own (3 forget), not the base's" in text
