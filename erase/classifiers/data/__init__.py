"""Data sets, one module each, found by name: ``NAME`` or ``NAME@PLACE``.

A module ``erase.classifiers.data.NAME`` (``-`` in a spec is ``_`` in its name) offers

    read(place) -> Data      reads it; ``place`` is what follows the ``@``, empty without one
    PLACE                    what ``place`` is, for messages; empty where none is taken

Its first line is what ``erase list data`` tells. Nothing is downloaded, and no pickle is opened.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from erase.classifiers.samples import Data
from erase.runtime.errors import UserError, clipped, nearest
from erase.runtime.modules import names

HERE = Path(__file__).parent


def list_data() -> list[str]:
    """Names of the data sets, as a spec spells them."""
    return [name.replace("_", "-") for name in names(HERE)]


def load_data(spec: str) -> Data:
    """Reads a data set.

    Args:
        spec: ``mini``, ``mini@style``, ``imagefolder@DIR``, ``npz@FILE``, ``fashion-mnist@DIR``, …

    Raises:
        UserError: unknown, not there, or damaged.
    """
    name, _, place = spec.partition("@")
    if name not in list_data():
        raise UserError(
            f"There is no data set '{clipped(name)}': choose from {', '.join(list_data())}."
            f"{nearest(name, list_data())}"
        )
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    if not place and module.PLACE and module.PLACE.isupper():
        raise UserError(f"Where {name} lies is not said: give --data {name}@{module.PLACE}.")
    data: Data = module.read(place)
    return data
