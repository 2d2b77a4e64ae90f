"""What a pipeline folder consists of, by its class; every model family states that of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from erase.runtime.modules import modules

Read = Callable[[str], Mapping[str, Any]]
"""Hands over the content of a JSON file of a pipeline's folder, by its path in there."""
FAMILIES = "erase.diffusion.families"
_WEIGHTS = {
    "diffusers": "diffusion_pytorch_model.safetensors",
    "transformers": "model.safetensors",
}


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
    """

    pipeline: str
    networks: Mapping[str, tuple[str, str]]
    generation: Callable[[Read], str]
    check: Callable[[Read, str], None]
    options: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    denoiser: str = "unet"

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """One per text encoder."""
        encoders = [name for name in self.networks if name.startswith("text_encoder")]
        return tuple(name.replace("text_encoder", "tokenizer") for name in encoders)

    def weights(self, component: str) -> str:
        """The file that a network's weights are written to, in its folder."""
        return _WEIGHTS[self.networks[component][0]]


@cache
def layouts() -> Mapping[str, Layout]:
    """The layouts of all families, by pipeline class."""
    found = (module.FAMILY.layout for module in modules(FAMILIES))
    return {layout.pipeline: layout for layout in found}
