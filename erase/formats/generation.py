"""What a model is, told from its configuration before any weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from erase.formats.unfetched import look
from erase.runtime.errors import UserError, clipped

if TYPE_CHECKING:
    from erase.formats.layouts import Classes, Layout, Read


def kind_of(model: str) -> str | None:
    """``1``, ``2``, ``XL``, or what else a family calls its own.

    None for a model on the hub whose configuration can't be had. Of one that
    was not downloaded yet two small files are looked at, which nothing keeps.

    Args:
        model: as the user calls it, see ``formats.base.open_base``.

    Raises:
        UserError: there is no such model, or it is of no known family.
    """
    from erase.formats.base import on_disk, open_base
    from erase.formats.original.layout import kind_of_folder, kind_of_state
    from erase.formats.tensors import tensor_names

    source = on_disk(model)
    if source is None:
        return look(model, lambda layout, read: layout.generation(read) if layout else "")
    base = open_base(source, fetch=False)
    if base.config is not None or base.path.is_dir():
        return kind_of_folder(base.config or base.path)
    return kind_of_state(dict.fromkeys(tensor_names(base.path)), str(base.path))


def classes_of(folder: Path) -> Classes | None:
    """What the class-conditional model of a folder is told; None of one that is told texts.

    Raises:
        UserError: it holds no pipeline of a known family, or its classes can't be read.
    """
    from erase.formats.configs import read_json
    from erase.formats.folder import layout_of

    told = layout_of(folder).classes
    return told(lambda name: read_json(folder / name)) if told else None


def classes_of_model(model: str) -> Classes | None:
    """What a class-conditional model is told; None of one that is told texts.

    Args:
        model: as for ``kind_of``.

    Raises:
        UserError: there is no such model, it is of no known family, or the hub can't be asked.
    """
    from erase.formats.base import on_disk, open_base

    source = on_disk(model)
    if source is not None:
        path = open_base(source, fetch=False).path
        return classes_of(path) if path.is_dir() else None

    def told(layout: Layout | None, read: Read) -> tuple[Classes | None]:
        return (layout.classes(read) if layout and layout.classes else None,)

    found = look(model, told)
    if found is None:
        raise UserError(
            f"The hub can't tell the classes of '{clipped(model)}': check the name and the "
            "network, or, of a class-conditional U-Net, give its folder."
        )
    return found[0]
