"""A network of your own: module:package.module:function, which builds it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from erase.classifiers.models import Shape
from erase.runtime.errors import UserError, clipped, nearest, reason

ARCH = "package.module:function"
MEAN = STD = None


def build(arch: str, shape: Shape) -> nn.Module:
    """See ``classifiers.models``. The function is called with the number of classes, or without
    anything where it takes nothing; images come in [0, 1], so that normalising is the network's
    own affair.

    Raises:
        UserError: no such function, it fails, or what it returns is no network.
    """
    function = _found(arch)
    try:
        network = function(*_arguments(function, shape.classes))
    except Exception as error:  # whatever the user's code raises
        told = f"{type(error).__name__}: {reason(error)}"
        raise UserError(
            f"'{clipped(arch)}' failed ({told}): it is called with the number of classes, or "
            "without anything where it takes nothing."
        ) from error
    if not isinstance(network, nn.Module):
        raise UserError(
            f"'{clipped(arch)}' returned {type(network).__name__}: let it return a torch.nn.Module."
        )
    return network


def source(arch: str) -> Path | None:
    """See ``classifiers.models``; the file that the function stands in, not what that imports.

    Raises:
        UserError: no such function.
    """
    try:
        file = inspect.getsourcefile(inspect.unwrap(_found(arch)))
    except TypeError:  # an object that is called
        file = sys.modules[arch.partition(":")[0]].__file__
    return Path(file) if file and Path(file).is_file() else None


def _found(arch: str) -> Callable[..., Any]:
    name, _, attribute = arch.partition(":")
    if not attribute:
        raise UserError(
            f"'module:{clipped(arch)}' names no function: write module:package.module:function."
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # an installed command does not look where the user is
    try:
        module = import_module(name)
    except Exception as error:  # whatever the user's code raises
        told = f"{type(error).__name__}: {reason(error)}"
        raise UserError(
            f"The module {clipped(name)} can't be imported ({told}): install it, or run from the "
            "folder that it lies in."
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        raise UserError(
            f"{clipped(name)} has no '{clipped(attribute)}': give a function that it has."
            f"{nearest(attribute, vars(module))}"
        )
    if not callable(found) or isinstance(found, nn.Module):
        raise UserError(
            f"{clipped(arch)} is {type(found).__name__}, not a function: give one that builds the "
            "network, since retraining needs new ones."
        )
    return found  # type: ignore[no-any-return]


def _arguments(function: Callable[..., Any], classes: int) -> tuple[int, ...]:
    try:
        takes = inspect.signature(function).parameters.values()
    except ValueError:  # of some built in C
        return (classes,)
    place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    several = inspect.Parameter.VAR_POSITIONAL
    return (classes,) if any(p.kind in (*place, several) for p in takes) else ()
