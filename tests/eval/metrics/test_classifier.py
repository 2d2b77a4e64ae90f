from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from erase.eval.instruments.choice import Instruments
from erase.eval.instruments.free_text import OWN_AXIS
from erase.eval.instruments.setting import Setting
from erase.eval.instruments.targets import Target, axes_of, find_target
from erase.eval.metrics.classifier import build
from erase.eval.pictures import Picture
from erase.eval.recognition import Judged, score
from erase.eval.stats.intervals import share
from erase.prompts.concept import Concept
from erase.runtime.errors import UserError
from tests.eval.instruments.test_judges import ARCH, save_judge
from tests.eval.synthetic import CHURCH, TRUCK, judges

TARGET = Target("object", "church", "truck")


def row(role: str, asked: str, said: str, style: str = "ink", seen: str = "ink") -> Judged:
    return Judged(
        role,
        {"object": asked, "style": style},
        {"object": (said, 0.9), "style": (seen, 0.8)},
    )


ROWS = [
    row("forget", "church", "truck"),
    row("forget", "church", "truck"),
    row("forget", "church", "radio", seen="flat"),
    row("forget", "church", "church"),
    row("retain", "truck", "truck"),
    row("retain", "truck", "church", seen="flat"),
    row("retain", "radio", "radio", "flat", "flat"),
    row("retain", "radio", "radio", "flat", "ink"),
    row("retain", "radio", "radio"),
]
BASE = [
    *[row("forget", "church", "church")] * 4,
    *[row("retain", "truck", "truck")] * 2,
    *[row("retain", "radio", "radio", "flat", "flat")] * 2,
    row("retain", "radio", "truck"),
]


def picture(role: str, prompt: str = "p", **labels: str) -> Picture:
    return Picture(Path("x.png"), "0", "s", 0, 0, prompt, 0, role, labels)


def test_a_table_counted_by_hand() -> None:
    found = score(ROWS, TARGET, ["object", "style"], against=BASE)
    assert found.ua == share(3, 4)
    assert found.became_anchor == share(2, 4)
    assert found.ira == share(4, 5)  # truck 1 of 2, radio 3 of 3
    assert found.cra == share(3, 5)  # forget images don't count
    assert found.reasons == {}
    assert found.became == {"truck": 2, "radio": 1, "church": 1}
    assert found.confusion == {
        "church": {"truck": 2, "radio": 1, "church": 1},
        "truck": {"truck": 1, "church": 1},
        "radio": {"radio": 3},
    }
    table = [(c.axis, c.label, c.role, c.share, c.change) for c in found.per_class]
    assert table == [
        ("object", "church", "forget", share(1, 4), -0.75),
        ("object", "radio", "retain", share(3, 3), pytest.approx(1 / 3)),
        ("object", "truck", "retain", share(1, 2), -0.5),
        ("style", "flat", "retain", share(1, 2), -0.5),
        ("style", "ink", "retain", share(2, 3), pytest.approx(-1 / 3)),
    ]
    assert score(BASE, TARGET, ["object", "style"]).ua == share(0, 4)


def test_cra_needs_every_other_axis_right() -> None:
    labels = {"object": "truck", "style": "ink", "paper": "white"}
    said = {"object": ("truck", 1.0), "style": ("ink", 1.0), "paper": ("blue", 1.0)}
    rows = [
        Judged("retain", labels, said),
        Judged("retain", labels, {**said, "paper": ("white", 1.0)}),
    ]
    assert score(rows, TARGET, ["object", "style", "paper"]).cra == share(1, 2)


def test_what_is_not_measured_has_a_reason() -> None:
    nothing = score(ROWS, TARGET, [])
    assert (nothing.ua, nothing.ira, nothing.cra, nothing.became_anchor) == (None,) * 4
    assert set(nothing.reasons.values()) == {"not measured: no judge"}
    one_axis = score(ROWS, Target("object", "church"), ["object"])
    assert one_axis.cra is None
    assert one_axis.became_anchor is None
    assert one_axis.reasons == {
        "cra": "not measured: no second axis",
        "became_anchor": "not measured: the anchor has no label on 'object'",
    }
    only_kept = score(ROWS[4:], TARGET, ["object", "style"])
    assert only_kept.ua is None
    assert "no forget images" in only_kept.reasons["ua"]
    only_forget = score(ROWS[:4], TARGET, ["object", "style"])
    assert only_forget.ira is None
    assert "no retained images" in only_forget.reasons["ira"]


def test_the_target_comes_from_the_concept_or_from_the_retained_labels() -> None:
    kept = [picture("retain", object="radio", n="1"), picture("retain", object="truck", n="2")]
    assert axes_of(kept) == {"object": ["radio", "truck"]}
    assert find_target(CHURCH, TRUCK, kept) == TARGET
    ink = replace(TRUCK, axis="style", label="ink")
    assert find_target(CHURCH, ink, kept) == Target("object", "church", None)
    text = Concept(name="a castle", kind="text", word="a castle")
    assert find_target(text, TRUCK, kept) == Target("object", "a castle", "truck")
    empty = Concept(name="", kind="text", word="")
    assert find_target(text, empty, [picture("retain")]) == Target(OWN_AXIS, "a castle", None)


def test_judges_must_know_the_classes() -> None:
    pictures = [picture("retain", object="radio"), picture("retain", object="truck")]
    setting = Setting(CHURCH, TRUCK, "any", pictures, judges=judges())
    assert build(setting).target == TARGET
    with pytest.raises(UserError, match="no class 'chapel'"):
        build(replace(setting, concept=replace(CHURCH, label="chapel")))
    with pytest.raises(UserError, match="no class 'zebra'"):
        build(replace(setting, pictures=[picture("retain", object="zebra")]))
    with pytest.raises(UserError, match="on the axis 'object'"):
        build(replace(setting, judges={"style": judges()["style"]}))
    free = Concept(name="a lorry", kind="text", word="a lorry")
    assert build(replace(setting, anchor=free)).target.anchor is None
    assert build(replace(setting, judges=None)).judges == {}


def test_a_spec_judges_every_axis_that_it_knows(tmp_path: Path) -> None:
    file = tmp_path / "j.safetensors"
    save_judge(file, ("church", "truck", "radio", "ink", "flat"))
    pictures = [
        picture("retain", object="radio", style="ink", place="here"),
        picture("retain", object="truck", style="flat", place="there"),
    ]
    spec = f"torchvision:{ARCH}@{file}"
    metric = build(Setting(CHURCH, TRUCK, "any", pictures, Instruments(spec)))
    assert set(metric.judges) == {"object", "style"}
    assert metric.facts["judges"]["object"]["spec"] == spec
    assert metric.facts["target"] == {"axis": "object", "label": "church", "anchor": "truck"}
