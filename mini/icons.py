"""Extracts the twelve drawings of each style from the npm icon packages into ``icons.json``.

    npm install @iconify-json/noto @iconify-json/twemoji @iconify-json/fluent-emoji-flat \
        @iconify-json/fluent-emoji-high-contrast
    python -m erase.mini.icons node_modules/@iconify-json

Only needed to take over a newer release of the drawings: ``icons.json`` is part of the package
(licences and attributions in ``NOTICE``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from erase.mini.world import ICONS, OBJECTS, STYLES


def extract(packages: Path) -> dict[str, dict[str, dict[str, object]]]:
    """Reads ``packages/<package>/icons.json`` for each style.

    Returns:
        style -> object -> ``{"size": view box side, "body": SVG markup}``.
    """
    world: dict[str, dict[str, dict[str, object]]] = {}
    for style in STYLES:
        data = json.loads((packages / style.package / "icons.json").read_text())
        drawings: dict[str, dict[str, object]] = {}
        for obj in OBJECTS:
            name = obj.icon
            if name not in data["icons"]:
                name = data["aliases"][name]["parent"]
            icon = data["icons"][name]
            size = icon.get("width", data.get("width", 16))
            drawings[obj.label] = {"size": size, "body": icon["body"]}
        world[style.label] = drawings
    return world


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m erase.mini.icons node_modules/@iconify-json")
    ICONS.write_text(json.dumps(extract(Path(sys.argv[1])), indent=1) + "\n")
