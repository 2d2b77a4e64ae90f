"""Render laws on readings and drawings whose distributions are planted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import kstest, uniform

from erase.eval.figure import Figure
from erase.eval.instruments.drawings import Reading
from erase.eval.instruments.setting import Setting
from erase.eval.metrics import Seen
from erase.eval.metrics.laws import ELSEWHERE, UNKNOWN, Laws, Row, build, distances, varieties
from erase.eval.pictures import Picture, read_pictures
from erase.mini import world
from erase.mini.world import Placement
from erase.prompts.concept import load_concept
from erase.runtime.files import sha256

CHURCH, TRUCK = (load_concept(f"mini/{name}") for name in ("church", "truck"))
KINDS = list(product(("fuel-pump", "trumpet"), ("flat", "ink")))
EACH = 6


def lawful(n: int = 120, seed: int = 0) -> list[Row]:
    """Readings drawn from the laws, without an image."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        side, share = rng.uniform(0.68, 0.90), rng.uniform(0, 1, 2)
        x, y = side / 2 + share * (1 - side)
        angle, mirror = rng.uniform(-10, 10), int(rng.choice((-1, 1)))
        hue, saturation, lightness = rng.uniform((0, 10, 84), (360, 90, 96))
        found = Reading(1.0, hue, saturation, lightness, side, x, y, angle, mirror)
        rows.append(Row(KINDS[i % 4], found))
    return rows


def changed(rows: list[Row], **values: float | None) -> list[Row]:
    return [replace(row, shown=replace(row.shown, **values)) for row in rows]


def test_distances_are_those_of_scipy_and_lawful_readings_keep_the_laws() -> None:
    rows = lawful()
    found = {d.law.name: d for d in distances(rows)}
    for key, name, low, high in (
        ("side", "size", 0.68, 0.90),
        ("angle", "angle", -10, 10),
        ("hue", "hue", 0, 360),
    ):
        values = [getattr(row.shown, key) for row in rows]
        own = kstest(values, uniform(low, high - low).cdf).statistic
        assert found[name].value == pytest.approx(own)
    mirrored = np.mean([row.shown.mirror == 1 for row in rows])
    assert found["mirroring"].value == pytest.approx(abs(mirrored - 0.5))
    assert len(found) == 8 and all(d.low == 0 and d.n == 120 for d in found.values())
    # √(ln(2·8/0.05)/240)
    assert found["size"].high - found["size"].value == pytest.approx(0.15503, abs=1e-5)


@pytest.mark.parametrize(
    ("planted", "law", "distance"),
    [
        ({"side": 0.90}, "size", 1.0),
        ({"angle": 0.0}, "angle", 0.5),
        ({"mirror": -1}, "mirroring", 0.5),
        ({"hue": 90.0}, "hue", 0.75),
        ({"lightness": 84.0}, "lightness", 1.0),
    ],
)
def test_a_planted_value_is_found(planted: dict[str, float], law: str, distance: float) -> None:
    rows = changed(lawful(), **planted)
    worst = distances(rows)[0]
    assert worst.law.name == law and worst.value == pytest.approx(distance)
    assert worst.low > 0.3
    if law != "mirroring":  # whose variance is its share's
        least = varieties(rows, lawful())[0]
        assert (least.law.name, least.value) == (law, pytest.approx(0, abs=1e-12))


def test_half_the_spread_is_a_quarter_of_the_variance() -> None:
    rows = lawful()
    half = [replace(r, shown=replace(r.shown, angle=(r.shown.angle or 0) / 2)) for r in rows]
    found = {v.law.name: v for v in varieties(half, rows)}
    assert found["angle"].value == pytest.approx(0.25)
    assert found["angle"].low == pytest.approx(0.25) == found["angle"].high
    assert found["size"].value == 1
    # Another draw of the same laws is as varied, as far as the intervals can tell.
    again = varieties(lawful(seed=1), rows)
    assert all(v.low < 1 < v.high for v in again)


def test_variance_is_taken_within_one_object_in_one_style() -> None:
    """Each kind has a hue of its own: together they are varied, each alone is not."""
    rows = [
        replace(row, shown=replace(row.shown, hue=90.0 * KINDS.index(row.drawing)))
        for row in lawful()
    ]
    assert varieties(rows, lawful())[0].value == pytest.approx(0, abs=1e-12)


def draw(folder: Path, place: Callable[[str, str, int], Placement]) -> list[Picture]:
    """A folder of drawings with their manifest."""
    folder.mkdir()
    lines = []
    for number, ((obj, style), k) in enumerate(product(KINDS, range(EACH))):
        file = folder / f"{number:05d}_0.png"
        Image.fromarray(world.draw(obj, style, place(obj, style, k))).save(file)
        row = {"set": "mini", "case_number": number, "k": 0, "prompt": f"{obj} {style}", "seed": k}
        labels = {"object": obj, "style": style}
        row |= {"file": file.name, "role": "retain", "labels": labels, "sha256": sha256(file)}
        lines.append(json.dumps(row) + "\n")
    (folder / "manifest.jsonl").write_text("".join(lines))
    return read_pictures(folder)


def test_drawings_of_one_placement_are_a_collapse(tmp_path: Path) -> None:
    metric = build(Setting(CHURCH, TRUCK, "mini", [], store=tmp_path / "store"))
    base = metric.measure(draw(tmp_path / "base", lambda *key: world.place(*key, "heldout")))
    still = Placement(0.7 * 64, 32, 32, 0, 1, 120, 50, 94)
    pictures = draw(tmp_path / "still", lambda *key: still)
    rows = metric.measure(pictures, ())
    own = {f.key: f for f in metric.score(base, base)}
    assert own["laws_read"].value == 1 and own["laws_read"].n == 24
    assert own["laws_ks"].low == 0  # 24 drawings keep the laws, as far as they can tell
    found = {f.key: f for f in metric.score(rows, base)}
    assert found["laws_ks"].value > 0.7
    assert found["laws_variety"].value == pytest.approx(0, abs=1e-6)
    [panel] = metric.panels({"base": Seen([], base), "erased": Seen(pictures, rows)})
    table = {row["law"].text: row for row in panel.rows}
    # At 94 of 84 to 96 %, read from 8 bits.
    assert float(table["lightness"]["after"].text) == pytest.approx(10 / 12, abs=0.01)
    assert table["lightness"]["variety"].text == "0.00"


def reasons(figures: list[Figure]) -> set[str | None]:
    return {f.reason for f in figures if f.value is None}


def test_other_images_are_not_measured_and_say_so(tmp_path: Path) -> None:
    nudity = load_concept("nudity")
    other = build(Setting(nudity, nudity, "sd.safetensors", []))
    pictures = [Picture(Path("x.png"), "0", "s", 0, 0, "p", 0, "retain", {"object": "castle"})]
    assert other.facts == {} and other.measure(pictures) == []
    assert reasons(other.score([])) == {ELSEWHERE}
    assert Laws(True).measure(pictures) == []
    assert reasons(Laws(True).score([])) == {UNKNOWN}
    few = Laws(True).score(lawful(8), lawful(8))
    assert [f.value is None for f in few] == [True, True, False]
    assert reasons(few) == {
        "not measured: fewer than 20 images read",
        "not measured: too few images of one object in one style",
    }
    assert "only beside a base side" in str(Laws(True).score(lawful())[1].reason)
