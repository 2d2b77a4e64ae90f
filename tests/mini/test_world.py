"""The miniature world: seeded, labelled, captioned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from scipy.stats import kstest, uniform

from erase.mini import world
from erase.mini.icons import extract


def test_twelve_objects_in_four_styles_two_for_tuning() -> None:
    assert len(world.OBJECTS) == 12
    assert [o.label for o in world.OBJECTS if o.tuning] == ["owl", "locomotive"]
    icons = json.loads(world.ICONS.read_text())
    assert list(icons) == list(world.STYLE_LABELS)
    assert all(list(v) == list(world.OBJECT_LABELS) for v in icons.values())


def test_twenty_templates_five_of_them_held_out() -> None:
    assert len({*world.TEMPLATES, *world.HELD_OUT_TEMPLATES}) >= 20
    assert len(world.HELD_OUT_TEMPLATES) == 5
    assert not set(world.TEMPLATES) & set(world.HELD_OUT_TEMPLATES)


def test_a_picture_is_fixed_by_its_whole_key() -> None:
    one = world.render("church", "ink", 3)
    assert one.shape == (64, 64, 3)
    assert one.dtype == np.uint8
    assert (one == world.render("church", "ink", 3)).all()
    for other in (
        world.render("church", "ink", 4),
        world.render("church", "flat", 3),
        world.render("radio", "ink", 3),
        world.render("church", "ink", 3, "judge"),
        world.render("church", "ink", 3, "heldout"),
    ):
        assert (one != other).any()


def test_placements_keep_their_laws() -> None:
    every = [world.place("church", "ink", seed) for seed in range(1000)]

    def distance(values: list[float], low: float, high: float) -> float:
        assert low <= min(values) and max(values) <= high
        return float(kstest(values, uniform(low, high - low).cdf).statistic)

    laws = ("angle", "hue", "saturation", "lightness")
    found = [distance([getattr(at, k) for at in every], *getattr(world, k.upper())) for k in laws]
    found.append(distance([at.side / 64 for at in every], *world.SIDE))
    margins = [(64 - at.side) / 2 for at in every]
    for key in ("x", "y"):
        shares = [(getattr(at, key) - 32) / m for at, m in zip(every, margins, strict=True)]
        found.append(distance(shares, -1, 1))
    found.append(abs(float(np.mean([at.mirror > 0 for at in every])) - 0.5))
    assert max(found) < 0.054  # √(ln(2·8/0.05)/2000): chance for eight laws at once


def test_articles_are_put_right() -> None:
    assert world.caption("a {style} drawing of a {object}", "owl", "ink") == (
        "an ink drawing of an owl"
    )
    assert world.caption("a {object}", "golf-flag") == "a golf flag"


def test_drawings_are_taken_from_the_packages_by_alias_too(tmp_path: Path) -> None:
    """A package that stores a drawing under another name, as npm's do."""
    for style in world.STYLES:
        names = {o.icon: {"body": f"<{o.icon}/>"} for o in world.OBJECTS}
        names["kirk"] = names.pop("church")
        folder = tmp_path / style.package
        folder.mkdir()
        content = {"width": 32, "icons": names, "aliases": {"church": {"parent": "kirk"}}}
        (folder / "icons.json").write_text(json.dumps(content))
    found = extract(tmp_path)
    assert found["ink"]["church"] == {"size": 32, "body": "<church/>"}
    shutil.rmtree(tmp_path)
