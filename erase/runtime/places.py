"""What is passed on names files, not where they lie on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

_SOURCE = re.compile(r"(^|[@=,])((?:/|[A-Za-z]:[\\/]).*?)(?=$|,[\w-]+=|,(?:/|[A-Za-z]:[\\/]))")
"""An absolute path: alone, in a list, or at the end of a spec such as ``object=timm:NAME@FILE``."""


def short(text: str) -> str:
    """A path or a spec, with the file's name alone where its path is absolute."""
    return _SOURCE.sub(lambda found: found[1] + _name(found[2]), text)


def _name(path: str) -> str:
    kind = PurePosixPath if path.startswith("/") else PureWindowsPath
    return kind(path).name or path


def near(folder: Path) -> str:
    """A folder as one would type it here: relative to the working directory, or its name alone."""
    if not folder.is_absolute():
        return folder.as_posix()
    here = Path.cwd()
    return folder.relative_to(here).as_posix() if folder.is_relative_to(here) else folder.name


def without_places(content: Any, *sources: Any) -> Any:
    """JSON without the absolute paths that ``sources`` name.

    Args:
        content: any JSON value; sentences in it may repeat a path or a spec.
        sources: JSON values in which every text is a path, a spec or none of both.
    """
    names = {text: short(text) for source in sources for text in _texts(source)}
    changed = {text: name for text, name in names.items() if text != name}
    return _replaced(content, dict(sorted(changed.items(), key=lambda pair: -len(pair[0]))))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for text, name in names.items():
            value = value.replace(text, name)
        return value
    if isinstance(value, Mapping):
        return {key: _replaced(one, names) for key, one in value.items()}
    return [_replaced(one, names) for one in value] if isinstance(value, list) else value
