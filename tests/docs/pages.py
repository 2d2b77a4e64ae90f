"""What the pages print: commands, Python and TOML."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {page.name: page for page in (ROOT / "README.md", *sorted(DOCS.glob("*.md")))}
"""README and the pages that people wrote; those made from the code are in folders."""
ENDS = {";", "&&", "||", "|", "&", "do", "done"}


def fenced(page: Path, language: str) -> list[str]:
    """The blocks of a language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of every ``erase`` in the page's shell blocks, however it is launched."""
    for block in fenced(page, "sh"):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            yield from _in_line(line)


def inline(page: Path) -> Iterator[list[str]]:
    """The arguments of every ``erase`` within a sentence."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for text in re.findall(r"`(erase [^`]+)`", prose):
        yield from _in_line(" ".join(text.split()))


def _in_line(line: str) -> Iterator[list[str]]:
    line = re.sub(r"\$\([^()]*(\([^()]*\))?[^()]*\)|\$\{[^}]*\}|\$\w+", "1", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in ENDS:
            words.append(word)
            continue
        if (found := _arguments(words)) is not None:
            yield found
        words = []


def _arguments(words: Sequence[str]) -> list[str] | None:
    """What follows ``erase``; None for another program."""
    for i, word in enumerate(words):
        if Path(word).name == "erase" and (i == 0 or _leads(words[:i])):
            rest = words[i + 1 :]
            values = [a.startswith("--") and "=" not in a for a in words[i:]]
            return [w for w, is_value in zip(rest, values, strict=False) if w != "…" or is_value]
    return None


def _leads(words: Sequence[str]) -> bool:
    """Whether a program may stand behind these: settings of its environment, or a launcher."""
    return words[-1] == "-m" or all(re.match(r"[A-Z_]+=", word) for word in words)
