"""A model on the hub, told from its small configuration files before its weights are fetched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from erase.runtime.errors import UserError, clipped

if TYPE_CHECKING:
    from erase.formats.layouts import Layout, Read

T = TypeVar("T")


def look(model: str, told: Callable[[Layout | None, Read], T]) -> T | None:
    """What is told by the configuration of a model on the hub; None where it can't be had."""
    from huggingface_hub import hf_hub_download

    from erase.formats.configs import read_json
    from erase.formats.layouts import INDEX, layouts

    with TemporaryDirectory() as place:

        def read(name: str) -> dict[str, Any]:
            return read_json(Path(hf_hub_download(model, name, local_dir=place)))

        try:
            return told(layouts().get(str(read(INDEX).get("_class_name"))), read)
        except Exception:  # no network, no such model, or a gated one: said where it is opened
            return None


def check(model: str) -> None:
    """Refuses a model that is not supported; where its configuration can't be had, none.

    Raises:
        UserError: it is of no known family, or of a kind of one that is not supported.
    """
    from erase.formats.layouts import INDEX, layouts

    def problem(layout: Layout | None, read: Read) -> str:
        if layout is None:
            kind = clipped(str(read(INDEX).get("_class_name")))
            return f"{model} holds a '{kind}': supported are {', '.join(layouts())}."
        try:
            layout.check(read, model)
        except UserError as error:
            return str(error)
        return ""

    if found := look(model, problem):
        raise UserError(found)
