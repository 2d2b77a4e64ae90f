"""How a model of a folder is used without this package, in lines of Python."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from erase.formats.folder import layout_of
from erase.formats.generation import classes_of
from erase.formats.layouts import Plain


def usage(
    folder: Path, place: str, recipe: Mapping[str, Any], erased: Collection[str] = ()
) -> Plain:
    """``Plain`` with everything filled in.

    Args:
        folder: the model's.
        place: what it is to be opened by.
        recipe: the settings that its images were made with.
        erased: classes that are not to be shown, where there are others.

    Raises:
        UserError: the folder holds no pipeline of a known family.
    """
    plain, classes = layout_of(folder).plain, classes_of(folder)
    said: dict[str, Any] = {"folder": place}
    said |= {"guidance": recipe.get("guidance_scale"), "steps": recipe.get("sampling_steps")}
    if classes:
        if plain.null not in (None, classes.null):
            said["guidance"] = 1.0  # the pipeline would guide by a label that is none or another's
        kept = next((n for n in classes.names if n not in erased), classes.names[0])
        said |= {"class": kept, "label": classes.names.index(kept), "null": classes.null}
    code = []
    for line in plain.code:
        for key, value in said.items():
            line = line.replace(f"{{{key}}}", str(value))
        code.append(line)
    return replace(plain, code=tuple(code))
