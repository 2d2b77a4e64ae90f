"""A run, checked: what is erased from which model, how, and in which folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from erase.eval.instruments.choice import UNNAMED, Instruments
from erase.images.captions import captions
from erase.images.files import image_files
from erase.methods import load_method
from erase.prompts.concept import CLASS, Concept, belongs, pairs
from erase.prompts.groups import Role
from erase.prompts.held_out import retain_rows
from erase.recipes.recipe import Recipe, own_settings
from erase.runtime.errors import UserError
from erase.runtime.files import sha256
from erase.runtime.notes import note
from erase.runtime.words import fold

if TYPE_CHECKING:
    from erase.images.request import Sampler


T = TypeVar("T")

ROLES: tuple[Role, ...] = ("forget", "retain", "anchor")


class Target(NamedTuple):
    """One concept and what is answered instead.

    Attributes:
        concept: what to forget.
        anchor: what to answer instead.
        named: both as the user named them, to be taken up again from the folder; the anchor is None
            where none was given and none is needed.
    """

    concept: Concept
    anchor: Concept
    named: tuple[str, str | None]

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The prompts (c, c')."""
        return pairs(self.concept, self.anchor)


@dataclass(frozen=True)
class Sources:
    """Where images and prompts come from, if not from the model and the concepts themselves.

    Attributes:
        forget_folder, retain_folder: the user's own images; None has the base model make them.
        retain: prompt set to retain instead of the concept's own; None keeps it.
        neighbours: prompt set of its neighbours, likewise.
    """

    forget_folder: Path | None = None
    retain_folder: Path | None = None
    retain: str | None = None
    neighbours: str | None = None

    def folder(self, role: Role) -> Path | None:
        """The user's own images of a role."""
        return {"forget": self.forget_folder, "retain": self.retain_folder}.get(role)

    def beside(self, earlier: Sources, roles: Sequence[Role]) -> Sources:
        """With those of an earlier command where none is given, folders as far as images of their
        role are needed."""
        forget, retain = (earlier.folder(r) if r in roles else None for r in ROLES[:2])
        return Sources(
            self.forget_folder or forget,
            self.retain_folder or retain,
            self.retain or earlier.retain,
            self.neighbours or earlier.neighbours,
        )


OWN = Sources()


@dataclass(frozen=True)
class Compute:
    """Where and how the networks are run.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        deterministic: have the device repeat itself bit by bit.
        channels_last, compiled: see ``diffusion.Diffusion``.
    """

    device: str = "auto"
    deterministic: bool = False
    channels_last: bool = False
    compiled: bool = False


AUTO = Compute()


@dataclass(frozen=True)
class Run:
    """Everything that the stages depend on; ``make_run`` checks it.

    Attributes:
        model: ``mini``, a hub id, a diffusers folder or a single file.
        targets: the concepts to forget, at least one, each with its anchor.
        recipe: the settings.
        seed: of every random draw.
        out: the run folder.
        sources: the user's own images and prompts.
        instruments: what the images are measured with.
        compute: where and how the networks are run.
        shared: folder in which runs find each other's images of the base model, and what was
            measured on them.
        eval_shift: added to the seeds of all evaluation images.
    """

    model: str
    targets: tuple[Target, ...]
    recipe: Recipe
    seed: int
    out: Path
    sources: Sources = OWN
    instruments: Instruments = UNNAMED
    compute: Compute = AUTO
    shared: Path | None = None
    eval_shift: int = 0

    @property
    def name(self) -> str:
        """What is forgotten, in words."""
        return " + ".join(t.concept.name for t in self.targets)

    @property
    def measured(self) -> Path | None:
        """Where what was measured on the base model's images is shared; None is the run's own."""
        return self.shared / "measured" if self.shared else None

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The prompts (c, c'), the concepts taking turns: pair i is that of concept i mod n."""
        return tuple(_turns([target.pairs() for target in self.targets]))

    def words(self) -> tuple[str, ...]:
        """What names the concept in each of the pairs."""
        own = [target.concept.word for target in self.targets]
        return tuple(own[i % len(own)] for i in range(len(self.pairs())))

    def forgets(self, prompt: str, labels: Mapping[str, str]) -> bool:
        """Whether a prompt is one of a concept to forget."""
        return any(belongs(prompt, labels, target.concept) for target in self.targets)

    def retain_prompts(self) -> list[str]:
        """The prompts c^r; the anchor's own where the concept says so. Sets of several concepts
        take turns."""
        sources: dict[Any, list[str]] = {}
        for target in self.targets:
            rows = retain_rows(target.concept, self.sources.retain)
            kept = [r.prompt for r in rows if not self.forgets(r.prompt, r.labels)]
            sources.setdefault(self.sources.retain or target.concept.retain, kept)
        own = [prompts for prompts in sources.values() if prompts]
        if not own:
            raise UserError(
                f"Every retained prompt belongs to {self.name}: choose another --retain."
            )
        return _turns(own)

    def trained_prompts(self) -> frozenset[str]:
        """What is retained in training, as ``words.fold`` spells it: judging it would tell
        nothing of what was not trained on. Of classes none, since there are no other prompts."""
        if all(target.concept.classes for target in self.targets):
            return frozenset()
        own = self.sources.retain_folder
        told = captions(own, image_files(own)) if own else []
        return frozenset(fold(text) for text in (*self.retain_prompts(), *told) if text)

    def places(self) -> list[str]:
        """A folder name for each concept, all different."""
        return places([target.concept.name for target in self.targets])

    def roles(self) -> tuple[Role, ...]:
        """The images that the mask and the method need."""
        return roles_of(self.recipe)

    def sampler(self) -> Sampler:
        """How images are made, for training and evaluation alike."""
        from erase.images.request import Sampler

        r = self.recipe
        return Sampler(r.sampler, r.sampling_steps, r.guidance_scale, r.size)


def roles_of(recipe: Recipe) -> tuple[Role, ...]:
    """The images that the mask and the method of a recipe need."""
    needs = load_method(recipe.method).NEEDS
    own = own_settings(recipe)
    needed = set(needs.images) - {role for role, key in needs.weighed.items() if not own[key]}
    if recipe.mask == "saliency":
        needed.add("forget")
    return tuple(role for role in ROLES if role in needed)


def _turns(each: Sequence[Sequence[T]]) -> list[T]:
    """One of each in turn, until the longest is through; shorter ones begin again."""
    return [own[i % len(own)] for i in range(max(map(len, each))) for own in each]


def slug(text: str) -> str:
    """A folder name made of a model, concept or recipe name."""
    own = text if text.startswith(CLASS) else text.rsplit("/", 1)[-1]
    name = "".join(c if c.isalnum() else "-" for c in own.lower())
    return "-".join(part for part in name.split("-") if part)[:60] or "run"


def places(concepts: Sequence[str]) -> list[str]:
    """A folder name for each of the concepts, all different."""
    names: list[str] = []
    for concept in concepts:
        name = slug(concept)
        names.append(f"{name}-{len(names) + 1}" if name in names else name)
    return names


def listed(run: Run, role: Role) -> list[tuple[str, str, str]]:
    """The user's own images of a role: path, prompt, SHA-256.

    Every forget prompt names the concept, so they are dealt out in turn. A retained image is of
    something in particular: it needs a caption of its own, unless there is one retain prompt; those
    of a concept to forget are left out.

    Raises:
        UserError: no images, a retained one that nothing describes, or none left without those
            that show what is forgotten.
    """
    own = run.sources.folder(role)
    assert own is not None
    files = image_files(own)
    if role == "forget":
        offered = [c for c, _ in run.pairs()]
        texts = [offered[i % len(offered)] for i in range(len(files))]
    else:
        offered = list(dict.fromkeys(run.retain_prompts()))
        found = captions(own, files)
        if None in found and len(offered) > 1:
            raise UserError(
                f"{files[found.index(None)]} has no caption: describe every retained image in "
                "metadata.jsonl or metadata.csv (file_name, text) or in a .txt or .caption file "
                "beside it."
            )
        texts = [text or offered[0] for text in found]
        kept = [i for i, text in enumerate(texts) if not run.forgets(text, {})]
        if not kept:
            raise UserError(
                f"Every image of {own} is described as {run.name}: give images of what is retained."
            )
        if gone := len(texts) - len(kept):
            note(
                f"{gone:,} of {len(texts):,} images of {own} are left out of what is retained: "
                f"their captions name {run.name}."
            )
        files, texts = [files[i] for i in kept], [texts[i] for i in kept]
    return [(str(f.resolve()), t, sha256(f)) for f, t in zip(files, texts, strict=True)]
