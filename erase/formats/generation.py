"""What a model is, told from its configuration before any weight is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from erase.runtime.errors import UserError, clipped

if TYPE_CHECKING:
    from erase.formats.layouts import Classes, Layout, Read

T = TypeVar("T")


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
        return _on_hub(model, lambda layout, read: layout.generation(read) if layout else "")
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

    found = _on_hub(model, told)
    if found is None:
        raise UserError(
            f"The hub can't be asked now for the classes of '{clipped(model)}': check the name and "
            "the network."
        )
    return found[0]


def check_on_hub(model: str) -> None:
    """Refuses a model of the hub by its configuration, before tens of GB of it are downloaded;
    where that can't be had, nothing is refused.

    Raises:
        UserError: it is of no known family, or of a kind of one that is not supported.
    """

    def problem(layout: Layout | None, read: Read) -> str:
        if layout is None:
            kind = clipped(str(read(INDEX).get("_class_name")))
            return f"{model} holds a '{kind}': supported are {', '.join(layouts())}."
        try:
            layout.check(read, model)
        except UserError as error:
            return str(error)
        return ""

    from erase.formats.layouts import INDEX, layouts

    if told := _on_hub(model, problem):
        raise UserError(told)


def _on_hub(model: str, look: Callable[[Layout | None, Read], T]) -> T | None:
    """What is told by the configuration of a model on the hub; None where it can't be had."""
    from huggingface_hub import hf_hub_download

    from erase.formats.configs import read_json
    from erase.formats.layouts import INDEX, layouts

    with TemporaryDirectory() as place:

        def read(name: str) -> dict[str, Any]:
            return read_json(Path(hf_hub_download(model, name, local_dir=place)))

        try:
            return look(layouts().get(str(read(INDEX).get("_class_name"))), read)
        except Exception:  # no network, no such model, or a gated one: said where it is opened
            return None
