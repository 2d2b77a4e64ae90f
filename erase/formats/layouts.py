"""What a pipeline folder consists of, by its class; every model family states that of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar, get_args

from erase.runtime.modules import modules

T = TypeVar("T")
Read = Callable[[str], Mapping[str, Any]]
"""Hands over the content of a JSON file of a pipeline's folder, by its path in there."""
Part = Literal["denoiser", "text_encoder"]
"""What an erasure may move of a pipeline: its denoiser, or its text encoders, all together."""
PARTS: tuple[Part, ...] = get_args(Part)
FAMILIES = "erase.diffusion.families"
INDEX = "model_index.json"
"""Says what a stock pipeline's folder holds."""
_WEIGHTS = {
    "diffusers": "diffusion_pytorch_model.safetensors",
    "transformers": "model.safetensors",
}


@dataclass(frozen=True)
class Classes:
    """What a class-conditional model is told by number.

    Attributes:
        names: of the classes, all different, by their labels 0, 1, …
        null: the label that stands for no class, which guidance starts from; None where there is
            none.
        sampling: settings of a recipe by which the model's own authors sample from it.
    """

    names: tuple[str, ...]
    null: int | None
    sampling: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plain:
    """How a model is used without this package, for its card.

    Attributes:
        task: the hub's name of what it does.
        tag: what else it is found by there.
        code: lines of Python; ``{folder}`` is the model's place, ``{guidance}`` and ``{steps}`` are
            what its images were made with, and ``{class}``, ``{label}`` and ``{null}`` are of a
            class-conditional one.
        exchanged: whether other programs load such models from single files, and edits of them as
            adapters.
        null: the label that the pipeline guides by, whatever the model's own; None for that.
    """

    task: str
    tag: str
    code: tuple[str, ...]
    exchanged: bool = True
    null: int | None = None


STOCK = Plain(
    "text-to-image",
    "stable-diffusion",
    (
        "from diffusers import DiffusionPipeline",
        "",
        'pipeline = DiffusionPipeline.from_pretrained("{folder}")',
    ),
)


@dataclass(frozen=True)
class Layout:
    """The components of a pipeline.

    Attributes:
        pipeline: its class in diffusers, as ``model_index.json`` names it.
        networks: the components that have weights and are always there, with library and class.
        generation: which generation of its family a model is.
        check: refuses a model, which its second argument names, that can't be one of the family.
        options: what else the pipeline's class is given; is handed ``model_index.json``.
        denoiser: the network that forgets.
        index: the file by which a folder of the family is known.
        aliases: names of its networks' classes in older folders, with today's.
        classes: what a class-conditional family's model is told; None of one that is told texts.
        plain: how it is used without this package.
    """

    pipeline: str
    networks: Mapping[str, tuple[str, str]]
    generation: Callable[[Read], str]
    check: Callable[[Read, str], None]
    options: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    denoiser: str = "unet"
    index: str = INDEX
    aliases: Mapping[str, str] = field(default_factory=dict)
    classes: Callable[[Read], Classes] | None = None
    plain: Plain = STOCK

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """One per text encoder."""
        encoders = self.part("text_encoder")
        return tuple(name.replace("text_encoder", "tokenizer") for name in encoders)

    def part(self, part: Part) -> tuple[str, ...]:
        """The components that a part consists of."""
        if part == "denoiser":
            return (self.denoiser,)
        return tuple(name for name in self.networks if part_of(name) == part)

    def joined(self, states: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
        """The weights of several components under one name each: those of text encoders begin with
        their component's, as ``text_encoder_2.text_model…``; a denoiser's are its own."""
        prefixes = {c: "" if c == self.denoiser else f"{c}." for c in states}
        return {prefixes[c] + n: v for c, state in states.items() for n, v in state.items()}

    def split(self, joined: Mapping[str, T]) -> dict[str, dict[str, T]]:
        """What ``joined`` has joined, by component."""
        found: dict[str, dict[str, T]] = {}
        for name, value in joined.items():
            component, _, rest = name.partition(".")
            own = component in self.networks and part_of(component) != "denoiser"
            place = (component, rest) if own else (self.denoiser, name)
            found.setdefault(place[0], {})[place[1]] = value
        return found

    def weights(self, component: str) -> str:
        """The file that a network's weights are written to, in its folder."""
        return _WEIGHTS[self.networks[component][0]]


def part_of(name: str) -> Part:
    """Whose weight, or which part's component, a name is; see ``Layout.joined``."""
    return "text_encoder" if name.startswith("text_encoder") else "denoiser"


@cache
def layouts() -> Mapping[str, Layout]:
    """The layouts of all families, by pipeline class."""
    found = (module.FAMILY.layout for module in modules(FAMILIES))
    return {layout.pipeline: layout for layout in found}
