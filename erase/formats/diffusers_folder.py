"""A diffusers folder: a pipeline, or its denoiser's folder alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from erase.formats import How, format_of
from erase.formats.base import Base, open_base
from erase.formats.folder import index_of, settle_precision, weight_files, write_states
from erase.formats.foreign import denoiser_beside, erased_state
from erase.formats.layouts import INDEX
from erase.formats.pipeline import save_model
from erase.formats.tensors import read_tensors
from erase.runtime.errors import UserError
from erase.runtime.files import whole_folder

NAME = "diffusers folder"
ENDS: tuple[str, ...] = ()
WHOLE = True
WRITES, KIND = "", "diffusers"
HELP = "the whole model as a folder"


def reads(path: Path) -> bool:
    """See ``Format``."""
    return path.is_dir()


def read(path: Path, base: Base) -> dict[str, Tensor]:
    """See ``Format``."""
    if index_of(path):
        return denoiser_beside(open_base(str(path)), base)
    files = weight_files(path).values()
    return {k: v for f in files if f.suffix != ".json" for k, v in read_tensors(f).items()}


def write(model: Base, target: Path, how: How) -> str:
    """Unpacks a file; ``how.base`` is a denoiser's base, or states a whole one's configuration."""
    form = format_of(model.path)
    if form.WHOLE:
        unpack(replace(model, config=how.base.path) if how.base else model, target)
        return f"{target}: a {NAME}"
    if how.base is None:
        raise UserError(f"{model.spec} is a {form.NAME}: add --base, the model that it belongs to.")
    save_model(how.base, erased_state(model.path, how.base), target)
    return f"{target}: {how.base.spec} with the {form.NAME} applied"


def unpack(model: Base, target: Path) -> None:
    """Writes a whole pipeline's file as a folder.

    Args:
        model: the file.
        target: new, or a pipeline that is replaced; written whole or not at all.

    Raises:
        UserError: it can't be read.
    """
    with whole_folder(target, INDEX) as part:
        write_states(part, model.unpack(part))
        settle_precision(part)
