"""Which judge tells whether free text is gone, and what is said where none can."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from erase.eval.instruments.bundled import mini_clip
from erase.eval.instruments.choice import UNNAMED, Instruments
from erase.eval.instruments.free_text import NEUTRAL, OWN_AXIS, labels_of, named
from erase.eval.instruments.setting import Setting
from erase.eval.instruments.targets import Target
from erase.eval.metrics.classifier import Classifier, build
from erase.eval.pictures import Picture
from erase.eval.recognition import Judged
from erase.prompts.concept import load_concept
from erase.runtime.errors import UserError
from tests.eval.instruments.test_judges import ARCH, save_judge

OBJECTS = ("dog-face", "church", "truck", "radio", "ball", "golf-ball")


@dataclass(frozen=True)
class Known:
    labels: tuple[str, ...]
    spec: str = "known"
    facts: dict[str, Any] = field(default_factory=dict)

    def classify(self, images: Sequence[Any]) -> list[Any]:
        raise NotImplementedError


JUDGES = {"object": Known(OBJECTS), "style": Known(("ink", "flat"))}


def picture(role: str, prompt: str, **labels: str) -> Picture:
    return Picture(Path("x.png"), "0", "s", 0, 0, prompt, 0, role, labels)


PICTURES = [picture("forget", "p"), picture("retain", "a cup of tea by a truck")]


def opened(
    concept: str,
    anchor: str = "a truck",
    instruments: Instruments = UNNAMED,
    model: str = "any",
    pictures: Sequence[Picture] = PICTURES,
    **given: Any,
) -> Classifier:
    return build(
        Setting(load_concept(concept), load_concept(anchor), model, pictures, instruments, **given)
    )


@pytest.mark.parametrize(
    ("concept", "expected"),
    [
        ("an ink drawing of a [church]", [("object", "church")]),
        ("an ink drawing of a [castle]", [("style", "ink")]),  # else the words of the prompt
        ("an ink drawing of a church", [("object", "church"), ("style", "ink")]),
        ("two Churches", [("object", "church")]),
        ("the dog's face", [("object", "dog-face")]),
        ("a golf ball", [("object", "golf-ball")]),  # not the ball in it
        ("a trucker", []),
    ],
)
def test_the_label_that_a_text_names(concept: str, expected: list[tuple[str, str]]) -> None:
    asked = load_concept(concept)
    labels = {axis: judge.labels for axis, judge in JUDGES.items()}
    assert named((asked.word, asked.name), labels) == expected


def test_retained_prompts_have_labels_where_every_one_names_one() -> None:
    assert labels_of(["a radio", "the red truck"], OBJECTS) == {
        "a radio": "radio",
        "the red truck": "truck",
    }
    assert labels_of(["a radio", "a cup of tea by a truck", "two dogs"], OBJECTS) == {}
    assert labels_of(["a radio in a truck"], OBJECTS) == {}


def test_a_judge_with_fixed_labels_is_used_where_the_words_name_one() -> None:
    metric = opened("a [church] at dusk", judges=JUDGES)
    assert metric.target == Target("object", "church", "truck")
    assert list(metric.judges) == ["object"]  # nobody asks for a style
    assert metric.facts["how"] == metric.told
    assert metric.told == (
        "'a church at dusk' is free text: UA uses the judge's label 'church', which its words name."
    )
    forget, kept = PICTURES
    assert metric.labels(forget) == {}
    assert metric.labels(kept) == {"object": "truck"}
    rows = [
        Judged("forget", {}, {"object": (label, 1.0)}) for label in ("church", "truck", "radio")
    ]
    found = metric.accuracy(rows)
    assert found.ua is not None and found.became_anchor is not None
    assert (found.ua.value, found.became_anchor.value) == (2 / 3, 1 / 3)
    assert found.ira is None and "no retained images with a label" in found.reasons["ira"]


@pytest.mark.parametrize(
    ("concept", "reason"),
    [
        ("a zebra", "none of the judge's 8 labels is among its words, and --judge open_clip:V"),
        ("an ink church", r"more than one of the judge's labels \(church and ink\); mark its own"),
    ],
)
def test_what_the_judge_does_not_know_is_not_measured_and_said(concept: str, reason: str) -> None:
    metric = opened(concept, judges=JUDGES)
    found = metric.accuracy([Judged("forget", {}, {})])
    assert found.ua is None
    assert re.match(f"not measured: .*{reason}", found.reasons["ua"])
    assert metric.facts["judges"] == {}


def test_without_a_judge_the_report_says_what_to_give() -> None:
    reasons = opened("a zebra").accuracy([]).reasons
    assert reasons["ua"] == (
        "not measured: no judge was given, and --judge open_clip:ViT-B-32 would tell it from its "
        "anchor"
    )
    assert "the bundled judges know none of its words" in opened("a zebra", model="mini").reason


def test_the_bundled_judges_know_their_own_words() -> None:
    metric = opened("an ink drawing of a [church]", model="mini")
    assert metric.target == Target("object", "church", "truck")
    assert len(metric.judges["object"].labels) == 12


@pytest.mark.parametrize("model", ["any", "mini"])
@pytest.mark.parametrize("flag", ["judge", "clip"])
def test_open_clip_tells_the_concept_from_its_anchor(
    model: str, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fake(spec: str, labels: list[str], *, more: list[str], **_: object) -> object:
        asked.append((spec, [*labels, *more]))
        return Known((*labels, *more))

    monkeypatch.setattr("erase.eval.instruments.targets.load_judge", fake)
    metric = opened("a photo of a [zebra]", "a horse", Instruments(**{flag: "open_clip:X"}), model)
    assert asked == [("open_clip:X", [NEUTRAL, "zebra", "a horse"])]
    assert metric.target == Target(OWN_AXIS, "zebra", "a horse")
    assert metric.told is not None and "zero-shot between 3 labels (something else" in metric.told
    # Where the retained images have labels of one kind, it is told from all of those.
    asked.clear()
    kept = [picture("retain", "p", object=label) for label in ("truck", "radio")]
    metric = opened(
        "a photo of a [zebra]", "a horse", Instruments(judge="open_clip:X"), pictures=kept
    )
    assert asked == [("open_clip:X", ["radio", "truck", "zebra", "a horse"])]
    assert metric.target == Target("object", "zebra", "a horse")


def test_a_file_is_asked_by_the_label_that_the_words_name(tmp_path: Path) -> None:
    file = tmp_path / "j.safetensors"
    save_judge(file, ("church", "truck", "radio"))
    spec = f"torchvision:{ARCH}@{file}"
    metric = opened("a photo of a church", instruments=Instruments(spec))
    assert metric.target == Target(OWN_AXIS, "church", "truck")
    assert metric.judges[OWN_AXIS].spec == spec
    unknown = opened("a photo of a zebra", instruments=Instruments(spec))
    assert unknown.judges == {} and "3 labels" in unknown.reason
    by_axis = Instruments(judge=f"object={spec}")
    kept = [picture("retain", "p", object=label) for label in ("truck", "radio")]
    metric = opened("a photo of a church", instruments=by_axis, pictures=kept)
    assert metric.target == Target("object", "church", "truck")


def test_a_zero_shot_judge_has_something_else_to_choose() -> None:
    """Where nothing but the concept is labelled, one label alone would fit every image."""
    church = load_concept("mini/church")
    named = [picture("forget", "p", object="church"), picture("retain", "q")]
    for anchor, expected in (("", {"church"}), ("mini/truck", {"church", "truck"})):
        found = build(
            Setting(church, load_concept(anchor), "any", named, Instruments(judge=mini_clip()))
        )
        assert {*found.judges["object"].labels} == {*expected, NEUTRAL}


def test_a_judge_with_one_class_is_refused() -> None:
    church = load_concept("mini/church")
    setting = Setting(
        church, load_concept(""), "any", PICTURES, judges={"object": Known(("church",))}
    )
    with pytest.raises(UserError, match="find 'church' in every image"):
        build(setting)
