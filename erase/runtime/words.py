"""The words of a text whatever their typography: accents, apostrophes, dashes, case, number."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# What no normal form decomposes, and every sign that people write for an apostrophe or a dash.
_APOSTROPHES = "’‘‛ʼʻʹ′`´＇"
_LETTERS = str.maketrans(
    dict.fromkeys(_APOSTROPHES, "'")
    | dict(zip("øłđðıŧħ", "olddith", strict=True))
    | {"æ": "ae", "œ": "oe", "þ": "th", "−": "-", "_": " "}
)
# Scripts without spaces: each sign is a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+(?:'\w+)*")
_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "mice": "mouse",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "oxen": "ox",
    "news": "news",
    **{f"{stem}ves": f"{stem}f" for stem in ("wol", "shel", "hal", "cal", "el", "scar", "thie")},
    **{f"{stem}ves": f"{stem}f" for stem in ("loa", "lea", "hoo", "shea", "dwar", "whar")},
    **{f"{stem}ves": f"{stem}fe" for stem in ("kni", "wi", "li")},
}


@lru_cache(maxsize=2**16)
def fold(text: str) -> str:
    """A text in one spelling: no case, accents or invisible signs, plain apostrophes and dashes.

    ``Dalí’s`` (Unicode's NFKD without its combining marks) becomes ``dali's``; runs of spaces of
    any kind and underscores become one space.
    """
    plain = unicodedata.normalize("NFKD", text.translate(_LETTERS)).casefold().translate(_LETTERS)
    signs = {c: unicodedata.category(c) for c in set(plain)}
    kept = ("-" if signs[c] == "Pd" else c for c in plain if signs[c] not in ("Mn", "Cf"))
    return " ".join("".join(kept).split())


@lru_cache(maxsize=2**16)
def contains(text: str, phrase: str) -> bool:
    """Whether a text has the words of a phrase in a row, as such or as ``X's``, plural or with
    hyphens; part of a word is not the word."""
    # Once with hyphenated words apart and once with them as one.
    return any(
        _has(_words(fold(text).replace("-", gap)), _words(fold(phrase).replace("-", gap)))
        for gap in (" ", "")
    )


def same(a: str, b: str) -> bool:
    """Whether two labels are one, but for their typography: ``Van_Gogh`` and ``van-gogh``."""
    return untyped(a) == untyped(b)


def untyped(label: str) -> str:
    """A label without its typography: equal for those that are the ``same``."""
    return " ".join(fold(label).replace("-", " ").split())


@lru_cache(maxsize=2**16)
def _words(text: str) -> list[frozenset[str]]:
    """The words of a folded text, each as the singulars that it may stand for."""
    found = []
    for word in _WORD.findall(text):
        bare = re.sub("'(s|d|ll|re|ve)$", "", word)
        # An elided article, as in l'église and d'Orsay; O'Keeffe is two words on both sides alike.
        found += re.split(r"(?<=^\w)'", bare)
    return [_singulars(word) for word in found]


def _singulars(word: str) -> frozenset[str]:
    if word in _IRREGULAR:
        return frozenset({word, _IRREGULAR[word]})
    found = {word}
    if word.endswith("men"):
        found.add(f"{word[:-3]}man")
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        found.add(word[:-1])
        if word.endswith("ies"):
            found.add(f"{word[:-3]}y")
        elif word.endswith("es") and word[:-2].endswith(("s", "x", "z", "ch", "sh", "o")):
            found.add(word[:-2])
    return frozenset(found)


def _has(text: list[frozenset[str]], phrase: list[frozenset[str]]) -> bool:
    width = len(phrase)
    return bool(phrase) and any(
        all(not a.isdisjoint(b) for a, b in zip(text[i : i + width], phrase, strict=True))
        for i in range(len(text) - width + 1)
    )


def counted(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
