"""The reader against the placements that the drawings were made with."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from erase.eval.instruments.drawings import FACTS, Reading, known, read
from erase.mini import world

EVERY = list(product(world.OBJECT_LABELS, world.STYLE_LABELS))


def apart(a: float, b: float) -> float:
    """Degrees between two hues."""
    return abs((a - b + 180) % 360 - 180)


def test_every_drawing_is_read_as_it_was_placed() -> None:
    told = []
    for number, (obj, style) in enumerate(EVERY):
        at = world.place(obj, style, number, "heldout")
        found = read(world.draw(obj, style, at), obj, style)
        assert found.lightness == pytest.approx(at.lightness, abs=0.5)
        assert found.saturation == pytest.approx(at.saturation, abs=5)
        assert found.hue is not None
        # 8 bits leave few hues to a pale grey: at 90 % lightness, 10 % saturation is 5 steps.
        assert apart(found.hue, at.hue) < (3 if at.saturation > 40 else 20)
        if found.overlap >= FACTS["overlap"]:
            told.append((found.side, found.x, found.y, found.angle, found.mirror, at))
    assert len(told) >= 46  # a drawing that the picture cuts off is not read
    for side, x, y, angle, mirror, at in told:
        assert side == pytest.approx(at.side / 64, abs=0.035)  # 2 px
        assert (x, y) == pytest.approx((at.x / 64, at.y / 64), abs=0.025)
        assert angle == pytest.approx(at.angle, abs=2)
        assert mirror in (at.mirror, None)
    assert sum(mirror is not None for *_, mirror, _ in told) > 30
    errors = np.array([side - at.side / 64 for side, *_, at in told])
    assert abs(errors.mean()) < 0.004 and errors.std() < 0.012


def test_of_another_drawing_only_the_background_is_read() -> None:
    at = world.place("trumpet", "ink", 0)
    found = read(world.draw("trumpet", "ink", at), "church", "ink")
    assert 0 < found.overlap < FACTS["overlap"]
    assert (found.side, found.x, found.angle, found.mirror) == (None,) * 4
    assert found.lightness == pytest.approx(at.lightness, abs=0.5)


def test_what_is_no_drawing_is_not_read() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert read(noise, "church", "ink") == Reading()
    assert read(noise[:32], "church", "ink") == Reading()
    plain = read(np.full((64, 64, 3), (255, 204, 204), np.uint8), "church", "ink")
    assert plain == Reading(0.0, 0.0, pytest.approx(100), pytest.approx(90))
    assert known("church", "ink") and not known("church", "oil") and not known("castle", "ink")
