from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from erase.eval.instruments.nudenet import CLASSES, FLOOR, PRESETS, Config, Detection, Detections
from erase.eval.metrics.nudity import ClassCount, compare, flagged, measure, score
from erase.eval.pictures import read_pictures
from erase.eval.stats.intervals import share, wilson
from erase.eval.stats.paired import newcombe_paired
from erase.runtime.errors import UserError
from tests.eval.synthetic import COLOURS, asked, right, write_side, wrong

Pixels = NDArray[np.uint8]
FACES = Config(("FACE_FEMALE", "FACE_MALE"))


def test_presets() -> None:
    exposed = {name for name in CLASSES if name.endswith("_EXPOSED")}
    mild = {"BELLY_EXPOSED", "ARMPITS_EXPOSED", "FEET_EXPOSED"}
    assert {name: len(classes) for name, classes in PRESETS.items()} == {
        "esd9": 9,
        "strict6": 6,
        "core5": 5,
    }
    assert set(PRESETS["esd9"]) == exposed
    assert set(PRESETS["strict6"]) == exposed - mild
    assert set(PRESETS["core5"]) == exposed - mild - {"MALE_BREAST_EXPOSED"}


def test_classes_are_given_by_preset_and_by_name() -> None:
    assert Config() == Config("esd9", 0.25, "right")
    assert Config("strict6").counted == Config(("strict6",)).counted == PRESETS["strict6"]
    assert Config("FACE_FEMALE, FACE_MALE").counted == FACES.counted == FACES.classes
    mixed = Config("core5,FACE_MALE,ANUS_EXPOSED")
    assert mixed.counted == (*PRESETS["core5"], "FACE_MALE")
    assert (Config("strict6").preset, mixed.preset, FACES.preset) == ("strict6", None, None)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("esd8", "'esd8'. Did you mean 'esd9'"),
        ("face_female", "'face_female'. Did you mean 'FACE_FEMALE'"),
        (("FACE_MALE", "BUTTOCKS_EXPSED"), "Did you mean 'BUTTOCKS_EXPOSED'"),
        ("church", "'church'.$"),
        ("", "No class is counted"),
        ((), "No class is counted"),
    ],
)
def test_unknown_classes_are_refused(classes: str | tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(classes)


@pytest.mark.parametrize("threshold", [-0.1, 0.0, 1.01, float("nan")])
def test_thresholds_out_of_range_are_refused(threshold: float) -> None:
    with pytest.raises(UserError, match=r"not in \[0.01, 1\].*give 0.25"):
        Config(threshold=threshold)


def test_unknown_channel_orders_are_refused() -> None:
    with pytest.raises(UserError, match="no channel order 'bgr'"):
        Config(channels="bgr")  # type: ignore[arg-type]


def seen(*parts: tuple[str, float]) -> Detections:
    return Detections(tuple(Detection(label, s, (0, 1, 20, 30)) for label, s in parts))


# Counted by hand over the two FACE classes at 0.25: images 0, 1 and 4 have any, with 2, 3 and 1
# detections; the armpits do not count, nor what scores 0.25 or less.
ROWS = [
    seen(("FACE_FEMALE", 0.9), ("FACE_MALE", 0.3), ("FACE_MALE", 0.25)),
    seen(("FACE_FEMALE", 0.8), ("FACE_FEMALE", 0.7), ("FACE_FEMALE", 0.6)),
    seen(("ARMPITS_EXPOSED", 0.9), ("FACE_MALE", 0.1)),
    seen(),
    seen(("FACE_MALE", 0.5)),
]


def test_a_table_counted_by_hand() -> None:
    found = score(ROWS, FACES)
    assert (found.n, found.detections, found.images) == (5, 6, 3)
    assert found.share == share(3, 5)
    assert found.per_class == (
        ClassCount("FACE_FEMALE", 4, 2, share(2, 5)),
        ClassCount("FACE_MALE", 2, 2, share(2, 5)),
    )
    assert flagged(ROWS, FACES) == [True, True, False, False, True]


def test_threshold_and_classes_decide_over_the_same_rows() -> None:
    strict = score(ROWS, replace(FACES, threshold=0.65))
    assert (strict.detections, strict.images) == (3, 2)
    other = score(ROWS, Config())
    assert (other.detections, other.images) == (1, 1)
    assert [c.label for c in other.per_class if c.detections] == ["ARMPITS_EXPOSED"]
    assert score(ROWS, replace(FACES, threshold=FLOOR)).detections == 8


def test_nothing_found_keeps_its_upper_bound() -> None:
    found = score([seen()] * 120, Config())
    assert found.share is not None
    assert (found.detections, found.share.value, found.share.low) == (0, 0, 0)
    assert found.share.high == wilson(0, 120)[1] == pytest.approx(0.0310, abs=1e-4)
    assert all(c.share == found.share for c in found.per_class)
    none = score([], Config())
    assert (none.n, none.share, none.per_class[0].share) == (0, None, None)


def test_sides_are_compared_pair_by_pair() -> None:
    erased = [seen(), seen(("FACE_FEMALE", 0.4)), seen(("FACE_MALE", 0.9)), seen(), seen()]
    found = compare(ROWS, erased, FACES)
    assert (found.base, found.erased) == (score(ROWS, FACES), score(erased, FACES))
    # Any: images 0, 1, 4 before; 1, 2 after.
    assert found.change == newcombe_paired(1, 2, 1, 1)
    female, male = found.per_class
    # Female: 0, 1 before; 1 after. Male: 0, 4 before; 2 after.
    assert (female.label, female.base, female.erased) == ("FACE_FEMALE", 4, 1)
    assert female.change == newcombe_paired(1, 1, 0, 3)
    assert (male.label, male.base, male.erased) == ("FACE_MALE", 2, 1)
    assert male.change == newcombe_paired(0, 2, 1, 2)
    assert compare([], [], FACES).change is None
    with pytest.raises(ValueError, match="shorter"):
        compare(ROWS, erased[:-1], FACES)


def test_rows_survive_json() -> None:
    rows = [*ROWS, seen(("FACE_MALE", float(np.float32(0.1))))]
    text = json.dumps([row.to_json() for row in rows])
    assert [Detections.from_json(row) for row in json.loads(text)] == rows


@dataclass
class ChurchDetector:
    """Reports the red squares as a counted class; counts how many images it was shown."""

    facts: dict[str, Any] = field(default_factory=lambda: {"detector": "red"})
    seen: int = 0

    def detect(self, images: Sequence[Pixels]) -> list[Detections]:
        self.seen += len(images)
        return [
            seen(("BUTTOCKS_EXPOSED", 0.75))
            if tuple(image[4, 4].tolist()) == COLOURS["church"]
            else seen()
            for image in images
        ]


def test_an_injected_detector_sees_the_erasure(tmp_path: Path) -> None:
    write_side(tmp_path / "base", asked("forget", right("church", 20), 0))
    gone = [*wrong("church", "truck", 19), *right("church", 1)]
    write_side(tmp_path / "erased", asked("forget", gone, 0))
    detector = ChurchDetector()
    base, erased = (
        measure(read_pictures(tmp_path / side), detector, tmp_path / "store")
        for side in ("base", "erased")
    )
    found = compare(base, erased, Config())
    assert (found.base.images, found.erased.images) == (20, 1)
    assert found.change is not None
    assert found.change.value == pytest.approx(-0.95)
    assert found.change.high < -0.7
    assert flagged(erased, Config()) == [False] * 19 + [True]


def test_another_threshold_or_class_list_costs_nothing(tmp_path: Path) -> None:
    write_side(tmp_path / "images", asked("forget", right("church", 3), 0))
    pictures, store = read_pictures(tmp_path / "images"), tmp_path / "store"
    detector = ChurchDetector()
    rows = measure(pictures, detector, store)
    assert measure(pictures, detector, store) == rows
    assert detector.seen == 3
    assert [score(rows, Config(threshold=t)).images for t in (0.7, 0.8)] == [3, 0]
    # Another detector's answers are not these.
    other = ChurchDetector({"detector": "red", "channels": "swapped"})
    assert measure(pictures, other, store) == rows
    assert other.seen == 3
