"""Which Stable Diffusion a model is, told from its configuration before any weight is read."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def kind_of(model: str) -> str | None:
    """``1``, ``2``, ``XL``, or what else a family calls its own.

    None for a model on the hub whose configuration can't be had. Of one that
    was not downloaded yet two small files are looked at, which nothing keeps.

    Args:
        model: as the user calls it, see ``formats.base.open_base``.

    Raises:
        UserError: there is no such model, or it is not a Stable Diffusion.
    """
    from erase.formats.base import on_disk, open_base
    from erase.formats.original.layout import kind_of_folder, kind_of_state
    from erase.formats.tensors import tensor_names

    source = on_disk(model)
    if source is None:
        return _kind_on_hub(model)
    base = open_base(source, fetch=False)
    if base.config is not None or base.path.is_dir():
        return kind_of_folder(base.config or base.path)
    return kind_of_state(dict.fromkeys(tensor_names(base.path)), str(base.path))


def _kind_on_hub(model: str) -> str | None:
    from huggingface_hub import hf_hub_download

    from erase.formats.folder import read_json
    from erase.formats.layouts import INDEX, layouts

    with TemporaryDirectory() as place:

        def read(name: str) -> dict[str, Any]:
            return read_json(Path(hf_hub_download(model, name, local_dir=place)))

        try:
            layout = layouts().get(str(read(INDEX).get("_class_name")))
            return layout.generation(read) if layout else ""
        except Exception:  # no network, no such model, or a gated one: said where it is opened
            return None
