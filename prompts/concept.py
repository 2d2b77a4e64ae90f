"""Concepts: what to erase, what it becomes, what must stay.

A concept is a TOML file in ``prompts/concepts/`` or free text from the command line. Files of a
folder share the settings in its ``_family.toml``, one table per kind, and override them:

    kind = "object"                      # object | style | nudity | person
    word = "church"
    templates = ["a {style} drawing of a {}"]   # {} takes the word
    slot = { style = ["noto", "ink"] }   # optional: {style} takes each of these
    axis = "object"                      # column of the evaluation set, with ...
    label = "church"                     # ... the concept's value in it
    evaluation = "mini"                  # prompt set
    retain = "mini-train"                # prompt set, or a list of prompts
    anchor = "mini/truck"                # default anchor: a concept or free text
    neighbours = ["fuel-pump", "chapel"] # likely to be damaged: concepts of the folder, or words
    paraphrases = ["a chapel"]           # prompts that ask for it in other words
    judge = "mini"                       # default judge
    tuning = false                       # true keeps it out of tables

A model that is told classes instead of texts has a concept for each, ``class:NAME``, and no files.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from erase.prompts import FOLDER
from erase.runtime.errors import UserError, clipped, nearest
from erase.runtime.files import is_hidden
from erase.runtime.tables import read_toml
from erase.runtime.words import contains, same

CONCEPTS = FOLDER / "concepts"
KINDS = ("object", "style", "nudity", "person")
FAMILY_FILE = "_family.toml"
PROMPT_SEEDS = 100_000_000
"""First seed of prompts that come from a concept rather than from a set."""
CLASS = "class:"
"""What the names of concepts begin with that are classes of a model."""
EVERYDAY = "everyday"
"""Prompt set of captions that have nothing to do with any concept."""
OPEN_FAMILY = "imagenette"
"""The family that any model may know; by short name it is found only where it is asked for, since
its concepts bring a recipe of their own."""
_TYPO = 0.8


@dataclass(frozen=True)
class Concept:
    """What to erase.

    Attributes:
        name: ``mini/church``, or the free text itself.
        kind: ``object``, ``style``, ``nudity``, ``person``, ``text`` for free text, or ``class``.
        word: what the templates are filled with.
        templates: prompts with one ``{}`` for the word.
        axis: column of the evaluation set that holds the label.
        label: the concept's value in that column.
        evaluation: name of the evaluation set.
        retain: prompt set to keep, of which rows with the concept's own label are left out, or
            the prompts themselves.
        anchor: default anchor, a concept's name or free text.
        neighbours: what may be damaged with it: short names of the family's concepts, or words
            for the templates.
        paraphrases: prompts that ask for it without its name, or with another form of it.
        tuning: for choosing settings only; never in a table.
        judge: default judge.
        classes: of a class, all that its model is told, by label: prompts are their names and
            nothing else, so that all train, and are judged by images of other seeds.
    """

    name: str
    kind: str
    word: str
    templates: tuple[str, ...] = ("{}",)
    axis: str | None = None
    label: str | None = None
    evaluation: str | None = None
    retain: str | tuple[str, ...] = EVERYDAY
    anchor: str | None = None
    neighbours: tuple[str, ...] = ()
    paraphrases: tuple[str, ...] = ()
    tuning: bool = False
    judge: str | None = None
    classes: tuple[str, ...] = ()

    def key(self) -> dict[str, Any]:
        """What a run depends on, as JSON: all but what attacks alone ask by."""
        told = asdict(self)
        left_out = {"paraphrases"} | (set() if self.classes else {"classes"})
        return {k: v for k, v in told.items() if k not in left_out}

    @property
    def family(self) -> str | None:
        """Folder of the concept's file; None for free text and concepts outside folders."""
        family, slash, _ = self.name.rpartition("/")
        return family if slash and self.kind not in ("text", "class") else None

    def prompts(self) -> tuple[str, ...]:
        """The templates filled with the word; free text verbatim."""
        return self.fill(self.word)

    def fill(self, word: str) -> tuple[str, ...]:
        """The concept's templates filled with another word."""
        if self.kind in ("text", "class"):  # verbatim
            return tuple(t.replace("{}", word) for t in self.templates)
        return tuple(articles(t.replace("{}", word)) for t in self.templates)


def articles(text: str) -> str:
    """Puts ``a`` and ``an`` right by the sound that the next word begins with; before capitals,
    which may be read letter by letter or not, they stay as written."""
    words = text.split()
    for i, word in enumerate(words[:-1]):
        if word in ("a", "an") and not re.match(r"[A-Z]{2}", words[i + 1]):
            words[i] = "an" if _VOWEL.match(words[i + 1]) else "a"
    return " ".join(words)


_VOWEL = re.compile(
    # A vowel, but for "European", "one", "unicorn" and "user"; or a silent h.
    r"(?!e[uw]|onc?e\b|uni(?:[^nmd]|mo)|u[bcfhjkqrst][aeiou])[aeiou]|heir|hono|honest|hour",
    re.IGNORECASE,
)


def list_concepts(family: str | None = None) -> list[str]:
    """Names of the concepts that come with the package, of one family or of all.

    Raises:
        UserError: unknown family.
    """
    names = sorted(
        f.relative_to(CONCEPTS).with_suffix("").as_posix()
        for f in CONCEPTS.rglob("*.toml")
        if f.name != FAMILY_FILE and not is_hidden(f)
    )
    if family is None:
        return names
    own = [n for n in names if n.rpartition("/")[0] == family]
    if not own:
        families = sorted({n.rpartition("/")[0] for n in names} - {""})
        raise UserError(
            f"There is no concept family '{family}'.{nearest(family, families)} "
            f"Choose from {', '.join(families)}."
        )
    return own


def members(family: str, tuning: bool = False) -> list[Concept]:
    """The concepts of a family by kind and name: those for tables, or those for tuning.

    Raises:
        UserError: unknown family.
    """
    found = [load_concept(name) for name in list_concepts(family)]
    return sorted(
        (c for c in found if c.tuning == tuning), key=lambda c: (KINDS.index(c.kind), c.name)
    )


def own_name(name: str) -> str:
    """``church`` of ``mini/church`` and of ``class:church``; a class's name may have a slash."""
    return name.removeprefix(CLASS) if name.startswith(CLASS) else name.rpartition("/")[2]


def full_name(name: str) -> str:
    """A concept's full name where images alone are known, and not what made them; anything but a
    short name as it is.

    Raises:
        UserError: a short name of several concepts.
    """
    found = [n for n in list_concepts() if n.rpartition("/")[2] == name]
    if len(found) > 1 and name not in found:
        raise UserError(f"'{name}' could be {' or '.join(found)}: give the full name.")
    return found[0] if found else name


def load_concept(name: str, family: str | None = None) -> Concept:
    """A concept by its full name, by its short name, from a TOML file, or free text.

    Args:
        name: ``mini/church``; ``church`` where a concept of the family has it; a path that ends in
            ``.toml``; anything else is the prompt itself, in which brackets may mark the concept's
            own words: ``a photo of a [church]``.
        family: whose short names are found, besides those of the concepts outside families.

    Raises:
        UserError: a short name of several concepts, one of Imagenette's where that family is not
            asked for, a single word that is nearly a name, a class, or brackets that mark nothing
            or several things.
    """
    if name and not name.strip():
        raise UserError("A concept or anchor is blank: give a name or a prompt.")
    if name.startswith(CLASS):
        raise UserError(
            f"'{clipped(name)}' is a class, and only models that are told classes instead of texts "
            "have those: give a name, or a prompt in quotes."
        )
    names = list_concepts()
    if name in names:
        return _read(CONCEPTS / f"{name}.toml", name)
    if name.endswith(".toml"):
        return _read(Path(name), Path(name).stem)
    # The bundled model's concepts are of another world than photographs: by short name they are
    # found for that model alone.
    reach = [n for n in names if n.rpartition("/")[0] in ("", family or OPEN_FAMILY)]
    short = [n for n in reach if n.rpartition("/")[2] == name]
    if len(short) > 1:
        raise UserError(f"'{name}' could be {' or '.join(short)}: give the full name.")
    if short:
        found = load_concept(short[0])
        if found.family not in (None, family):
            raise UserError(
                f"'{name}' is short for {found.name}, whose published recipe and judging take "
                f"days: write {found.name} for that, or free text in quotes, such as "
                f'"{articles(f"a photo of a {found.word}")}".'
            )
        return found
    if name and len(name.split()) == 1:
        _refuse_typo(name, names if "/" in name else reach, family)
    if "[" in name or "]" in name:
        return _marked(name)
    return Concept(name=name, kind="text", word=name)


def _marked(text: str) -> Concept:
    found = re.fullmatch(r"([^\[\]]*)\[\s*([^\[\]]*[^\[\]\s])\s*\]([^\[\]]*)", text)
    if not found or "{" in text:
        raise UserError(
            f"The prompt '{clipped(text)}' does not mark exactly one word or phrase: put one pair "
            "of brackets around the concept's own words, as in 'a photo of a [church]'."
        )
    before, word, after = found.groups()
    plain = f"{before}{word}{after}"
    return Concept(name=plain, kind="text", word=word, templates=(f"{before}{{}}{after}",))


def _refuse_typo(name: str, reach: Sequence[str], family: str | None) -> None:
    if "/" in name:
        raise UserError(
            f"There is no concept '{name}'.{nearest(name, reach)} 'erase list' shows them; "
            "free text with a slash must contain a space."
        )
    short = {n.rpartition("/")[2]: n for n in reach}
    near = difflib.get_close_matches(name.lower(), short, n=1, cutoff=_TYPO)
    if near:
        meant = near[0] if family else short[near[0]]
        raise UserError(
            f"There is no concept '{name}'. Did you mean '{meant}'? "
            f"To erase the word itself, write a phrase such as 'a photo of {name}'."
        )


def pairs(concept: Concept, anchor: Concept) -> tuple[tuple[str, str], ...]:
    """The prompts (c, c'): what is erased and what it becomes.

    An anchor of the same kind takes the concept's place in every template. Free text stands for
    itself, and another anchor for its first prompt.

    Raises:
        UserError: the anchor is the concept.
    """
    if anchor.kind == concept.kind != "text":
        becomes = concept.fill(anchor.word)
    else:
        becomes = anchor.prompts()[:1] * len(concept.templates)
    found = tuple(zip(concept.prompts(), becomes, strict=True))
    if any(c == a for c, a in found):
        raise UserError(
            f"The concept '{concept.name}' equals its anchor '{anchor.name}': choose another."
        )
    return found


def belongs(prompt: str, labels: Mapping[str, str], concept: Concept) -> bool:
    """Whether a prompt is the concept's: by its label, or, without one, by the concept's words.

    The words count in whatever form they are written (``words.contains``), and so does the label.
    Keeping a prompt that names the concept would pull against erasing it. Of a class, its very
    name counts.
    """
    if concept.classes:
        return prompt == concept.word
    if concept.axis is not None and concept.label is not None and labels.get(concept.axis):
        return same(labels[concept.axis], concept.label)
    return contains(prompt, concept.word)


def _read(file: Path, name: str) -> Concept:
    own = read_toml(file, "The concept file")
    shared = _shared(file.parent).get(str(own.get("kind")), {})
    if not isinstance(shared, Mapping):
        raise UserError(
            f"The concept file {file.parent / FAMILY_FILE} has a '{own.get('kind')}' that is no "
            "table: write what the concepts of that kind share below [its name]."
        )
    values = dict(shared)
    if "templates" in own:
        values.pop("slot", None)  # it belongs to the templates that are replaced
    return _concept(name, values | own, file)


@cache
def _shared(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    file = folder / FAMILY_FILE
    return read_toml(file, "The concept file") if file.exists() else {}


def _concept(name: str, values: Mapping[str, Any], file: Path) -> Concept:
    """Checks the settings of a concept file, once."""

    def refuse(what: str) -> UserError:
        return UserError(f"The concept file {file} {what}")

    told = ("name", "classes")  # by the file's place, and by a model
    known = [f.name for f in fields(Concept) if f.name not in told] + ["slot"]
    for key in values:
        if key not in known:
            raise refuse(f"has the unknown key '{clipped(key)}'.{nearest(key, known)}")
    for key in ("kind", "word", "templates"):
        if not values.get(key):
            raise refuse(f"has no '{key}': add it.")
    if values["kind"] not in KINDS:
        raise refuse(f"has the kind '{clipped(values['kind'])}': choose from {', '.join(KINDS)}.")
    texts = ("word", "axis", "label", "evaluation", "anchor", "judge")
    for key in texts:
        if key in values and not isinstance(values[key], str):
            raise refuse(f"has a '{key}' that is not text: put it in quotes.")
    if not isinstance(values.get("tuning", False), bool):
        raise refuse("has a 'tuning' other than true or false: write one of these.")
    if len({key in values for key in ("axis", "label", "evaluation")}) > 1:
        raise refuse("needs all of 'axis', 'label' and 'evaluation', or none.")
    retain = values.get("retain", EVERYDAY)
    if not isinstance(retain, str):
        retain = _texts(retain)
    templates = _texts(values["templates"])
    if not retain or not templates:
        raise refuse("needs a list of texts as 'templates', and a set or a list as 'retain'.")
    neighbours = _texts(values.get("neighbours", []))
    if "neighbours" in values and not neighbours:
        raise refuse("needs a list of texts as 'neighbours'.")
    paraphrases = _texts(values.get("paraphrases", []))
    if "paraphrases" in values and not paraphrases:
        raise refuse("needs a list of texts as 'paraphrases'.")
    slot = values.get("slot")
    if slot is not None:
        templates = _expand(templates, slot)
    if not templates or any(t.count("{}") != 1 or t.count("{") != 1 for t in templates):
        raise refuse("needs templates with one {} each, and one list for every named {slot}.")
    own = {key: values[key] for key in (*texts, "kind", "tuning") if key in values}
    own |= {"neighbours": neighbours, "paraphrases": paraphrases}
    return Concept(name=name, templates=templates, retain=retain, **own)


def _texts(value: object) -> tuple[str, ...]:
    """A list of non-empty texts, or () if it is none."""
    if isinstance(value, list) and all(isinstance(v, str) and v.strip() for v in value):
        return tuple(value)
    return ()


def _expand(templates: Sequence[str], slot: object) -> tuple[str, ...]:
    """Every template with every filling of the one named slot, or () if there is no such slot.

    The fillings take turns, so that any first part of the prompts is a mixture.
    """
    if not isinstance(slot, dict) or len(slot) != 1:
        return ()
    [(name, values)] = slot.items()
    fillings = _texts(values)
    return tuple(
        t.replace("{" + name + "}", fillings[(i + turn) % len(fillings)])
        for turn in range(len(fillings))
        for i, t in enumerate(templates)
    )
