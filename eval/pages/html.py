"""What all pages share: the template environment, and pictures within a page."""

from __future__ import annotations

import base64
import io
import re
import shlex
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from erase.eval.pages import phrases

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL = 256
"""Side in px above which an image is scaled down for the page; the files keep their size."""
T = TypeVar("T")


@cache
def template(name: str) -> Any:
    """A page's template, with the filters that print figures."""
    environment = Environment(
        loader=PackageLoader("erase.eval.pages", "templates"),
        autoescape=lambda name: name is None or not name.endswith(".css"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "percent": phrases.percent,
        "points": phrases.points,
        "words": phrases.words,
        "called": phrases.called,
        "interval": phrases.interval,
        "setting": setting_text,
        "quoted": shlex.quote,
        "whole": whole,
    }
    environment.filters.update(filters)
    return environment.get_template(name)


def setting_text(value: Any) -> str:
    """A recipe value as one would type it."""
    if isinstance(value, float):
        return f"{value:g}"
    if value is None:
        return phrases.DASH
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most ``count`` items, evenly spaced."""
    n = len(items)
    return [items[i * n // count] for i in range(count)] if n > count else list(items)


def mixed(items: Sequence[T], group: Callable[[T], str], count: int) -> list[T]:
    """At most ``count`` items, groups taking turns, then ordered by group."""
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(group(item), []).append(item)
    turns = max(map(len, groups.values()), default=0)
    chosen = [m[i] for i in range(turns) for m in groups.values() if i < len(m)][:count]
    return sorted(chosen, key=group)


def data_uri(file: Path) -> str:
    """The image for embedding: small ones as they are, larger ones as JPEG thumbnails."""
    from PIL import Image as pillow

    from erase.images.files import read_image

    image: Image = pillow.fromarray(read_image(file))
    if max(image.size) <= THUMBNAIL // 2:
        return encoded(image, "PNG", optimize=True)
    image.thumbnail((THUMBNAIL, THUMBNAIL), pillow.Resampling.LANCZOS)
    return encoded(image, "JPEG", quality=88)


def encoded(image: Image, kind: Literal["PNG", "JPEG"], **how: Any) -> str:
    """An image as a data URI; ``how`` is for Pillow's writer."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


_RANGE = re.compile(r"[−+]?\d[\d.]*(?:–| to )[−+]?(?:&[lg]t;)?\d[\d.]*(?:[ \u00a0]%)?|n = [\d,]+")


def whole(text: str) -> Markup:
    """A sentence whose intervals do not break across lines."""
    return Markup(_RANGE.sub(r'<span class="nb">\g<0></span>', str(escape(text))))
