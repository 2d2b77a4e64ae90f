"""The one boundary to diffusers and transformers: a diffusion model in the equations' verbs.

Everything behind it works in prediction space and never asks whether the model predicts the
noise or the velocity, nor what reads its prompts: that is its family's affair.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from erase.diffusion.conditioning import Conditioning, join
from erase.diffusion.families import Family, Reader, family_of
from erase.diffusion.memory import at_once, to_low_memory
from erase.diffusion.samplers import fast
from erase.diffusion.scopes import in_text_scope, scoped
from erase.diffusion.text import Text
from erase.formats.folder import canonical
from erase.formats.layouts import Part
from erase.images.request import Sampler, Shot
from erase.runtime.errors import UserError


@dataclass(frozen=True)
class Diffusion:
    """A diffusion model: denoiser, noise schedule, what reads prompts, and maybe an autoencoder.

    Attributes:
        pipeline: the diffusers pipeline that holds the components.
        source: what the user called it, or the edit of it.
        device: where it computes.
        dtype: of the text encoders, and of sampling; an autoencoder computes in fp32.
        compiled: whether the denoiser is compiled for sampling.
    """

    pipeline: Any
    source: str
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    compiled: bool = False

    @classmethod
    def load(
        cls,
        source: str,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        channels_last: bool = False,
        compiled: bool = False,
        edit: str | Path | None = None,
        strength: float = 1.0,
    ) -> Diffusion:
        """Opens ``mini``, a hub id, a diffusers folder or a single file.

        Args:
            source: see ``formats.base.open_base``.
            device, dtype, compiled: see the class.
            edit: file of what an erasure changed in ``source``, such as a LoRA, to be applied.
            strength: of the edit, see ``formats.foreign.erased_state``.
            channels_last: lay feature maps out pixel by pixel, which recent GPUs are faster with;
                on a CPU, whose convolutions are faster with it, it is always so.

        Raises:
            UserError: nothing there, no pipeline of a known family, one that would be trained
                on another function than it samples from, or an edit that does not fit it.
        """
        from erase.formats.pipeline import apply_edit, load_pipeline

        pipeline = load_pipeline(source, dtype)
        if edit is not None:
            apply_edit(pipeline, source, Path(edit), strength)
        pipeline.set_progress_bar_config(disable=True)
        loaded = cls(pipeline, str(edit or source), torch.device(device), dtype, compiled)
        loaded.family.check(source)
        channels_last = channels_last or loaded.device.type == "cpu"
        for name, network in loaded.networks.items():
            network.to(device).requires_grad_(False).eval()
            if channels_last and loaded.family.layout.networks[name][0] == "diffusers":
                nn.Module.to(network, memory_format=torch.channels_last)
        return loaded

    @cached_property
    def family(self) -> Family:
        """What differs between kinds of models."""
        return family_of(self.pipeline)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The components that have weights, by their names in the pipeline."""
        return {name: getattr(self.pipeline, name) for name in self.family.layout.networks}

    @cached_property
    def reader(self) -> Reader:
        """What reads prompts."""
        return self.family.reader(self.device)

    @property
    def text(self) -> Text:
        """The text encoders, for what works on words and tokens.

        Raises:
            UserError: the model has none.
        """
        if isinstance(self.reader, Text):
            return self.reader
        raise UserError(
            f"{self.source} is told a class and has no text encoder, which this works through: "
            "choose another method or attack."
        )

    @property
    def denoiser(self) -> nn.Module:
        """ε_θ (or v_θ), the network that forgets."""
        return self.networks[self.family.layout.denoiser]

    @property
    def size(self) -> int:
        """The model's own image side in px."""
        denoiser: Any = self.denoiser
        return int(denoiser.config.sample_size) * self.stride

    @property
    def channels(self) -> int:
        """Channels C of a latent."""
        denoiser: Any = self.denoiser
        return int(denoiser.config.in_channels)

    @property
    def stride(self) -> int:
        """Image px per px of x_0."""
        return self.family.stride

    @property
    def autoencoder(self) -> Any:
        """What makes x_0 of images; None where x_0 are the images themselves."""
        return self.networks.get("vae")

    @property
    def timesteps(self) -> int:
        """Number T of noise levels the model was trained with; t lies in [0, T)."""
        return self.family.timesteps

    def frozen(self) -> Diffusion:
        """The same model with a copy θ0 of the denoiser that training does not move."""
        pipeline = copy.copy(self.pipeline)
        still = copy.deepcopy(self.denoiser).requires_grad_(False).eval()
        pipeline.register_modules(**{self.family.layout.denoiser: still})
        return replace(self, pipeline=pipeline)

    def part(self, part: Part) -> nn.Module:
        """What a method may move: the denoiser, or all text encoders by their names."""
        if part == "denoiser":
            return self.denoiser
        return nn.ModuleDict({name: self.networks[name] for name in self.family.layout.part(part)})

    def state(self, part: Part) -> dict[str, Tensor]:
        """A part's tensors as models on disk name them; see ``Layout.joined``."""
        layout = self.family.layout
        return layout.joined(
            {
                name: {canonical(name, n): v for n, v in self.networks[name].state_dict().items()}
                for name in layout.part(part)
            }
        )

    def scoped(self, scope: str, part: Part = "denoiser") -> dict[str, nn.Parameter]:
        """The parameters of a part that belong to a scope; see ``scopes.scoped``."""
        within = self.family.in_scope if part == "denoiser" else in_text_scope
        return scoped(self.part(part), scope, within)

    def lighten(self, reads: bool = False) -> None:
        """Makes training small: the denoiser in bf16, its activations computed again on the way
        back, and the other networks, which have done their work, off the device.

        Args:
            reads: whether text is read while training, so that its encoders stay.
        """
        to_low_memory(self.denoiser)
        for name, network in self.networks.items():
            if name != self.family.layout.denoiser and not (reads and name.startswith("text")):
                network.to("cpu")

    def embed(self, prompts: Sequence[str]) -> Conditioning:
        """The prompts as the denoiser is told them, of texts the first 77 tokens.

        Raises:
            UserError: a prompt that is no class, of a model that is told classes.
        """
        return self.reader.embed(prompts)

    def unconditional(self) -> Conditioning:
        """∅, one row: the empty prompt, zeros in models that were trained so, or the null class.

        Raises:
            UserError: a model that is told classes and has no null class.
        """
        return self.reader.unconditional()

    @torch.no_grad()
    def encode(self, images: NDArray[np.uint8]) -> Tensor:
        """The posterior over x_0, latents or the images themselves: means and standard deviations.

        Args:
            images: uint8 RGB (B, H, W, 3), H and W divisible by ``stride``.

        Returns:
            (B, 2, C, h, w), scaled to the denoiser's range; x_0 = mean + std·noise.
        """
        found = []
        for part in torch.from_numpy(np.array(images)).split(at_once(images.shape[1:3])):
            x = part.permute(0, 3, 1, 2).to(self.device, torch.float32) / 127.5 - 1
            found.append(torch.stack(self.family.encode(x), 1))
        return torch.cat(found).to(self.device)

    @torch.no_grad()
    def decode(self, x0: Tensor) -> NDArray[np.uint8]:
        """Images, uint8 RGB (B, H, W, 3), of latents x_0 (B, C, h, w).

        Raises:
            UserError: the model's weights are not finite.
        """
        height, width = (self.stride * side for side in x0.shape[-2:])
        found = []
        for part in x0.split(at_once((height, width))):
            x = self.family.decode(part)
            if not bool(torch.isfinite(x).all()):
                # Black images would count as erased.
                raise UserError(
                    f"{self.source} makes images that are not finite: its weights are damaged."
                )
            unit = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()
            found.append(np.asarray((unit * 255).round(), dtype=np.uint8))
        return np.concatenate(found)

    def times(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Times t of some shape, drawn as in the model's own training."""
        return self.family.times(shape, generator)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t (B, C, h, w) of x_0 and ε, for t (B,); x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε in most."""
        return self.family.add_noise(x0, noise, t)

    def predict(self, x_t: Tensor, t: Tensor, c: Conditioning) -> Tensor:
        """The denoiser's prediction at (x_t, t) given c, in fp32; keeps the graph."""
        return self.family.predict(self.denoiser, x_t, t, c).float()

    def predict_each(self, *given: tuple[Tensor, Tensor, Conditioning]) -> tuple[Tensor, ...]:
        """The predictions at several (x_t, t, c), each of any number of rows, from one forward."""
        x_t, t, c = zip(*given, strict=True)
        predicted = self.predict(torch.cat(x_t), torch.cat(t), join(c))
        found: tuple[Tensor, ...] = predicted.split([len(x) for x in x_t])
        return found

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What a perfect denoiser would predict: ε, or v = √ᾱ ε - √(1-ᾱ) x_0.

        Raises:
            UserError: the model predicts something else.
        """
        return self.family.target(x0, noise, t)

    @torch.no_grad()
    def denoise_to(
        self,
        done: int,
        c: Conditioning,
        empty: Conditioning,
        *,
        steps: int,
        guidance: float,
        noise: Tensor,
        own: bool = False,
        generators: Sequence[torch.Generator] | None = None,
    ) -> tuple[Tensor, Tensor, int]:
        """x_t from pure noise, after the first steps of a sampler.

        Args:
            done: steps taken, in [0, ``steps``).
            c, empty: the embedded prompts and ∅, B rows each.
            steps: of the whole sampler.
            guidance: classifier-free guidance scale; 1 is none.
            noise: standard normal (B, C, h, w), see ``draw_noise``.
            own: take the model's own scheduler, as its pipeline would, instead of deterministic
                DDIM.
            generators: one a row, of what such a scheduler may draw between its steps.

        Returns:
            x_t (B, C, h, w) as the denoiser takes it, its timesteps t (B,), and how many timesteps
            lie between t and the noisier level before it.
        """
        scheduler = copy.deepcopy(self.pipeline.scheduler) if own else self.family.sampler("ddim")
        scheduler.set_timesteps(steps)
        drawn: dict[str, Any] = {}
        if generators is not None and "generator" in inspect.signature(scheduler.step).parameters:
            drawn = {"generator": list(generators)}
        times = scheduler.timesteps.tolist()
        at = done * scheduler.order
        x_t = noise.to(c.hidden.device) * scheduler.init_noise_sigma
        for now in times[:at]:
            t = torch.full((len(c),), now, device=x_t.device)
            given = scheduler.scale_model_input(x_t, now)
            if guidance > 1:
                e_c, e_empty = self.predict_each((given, t, c), (given, t, empty))
                predicted = e_empty + guidance * (e_c - e_empty)
            else:
                predicted = self.predict(given, t, c)
            x_t = scheduler.step(predicted.to(x_t), now, x_t, **drawn).prev_sample
        now = times[at]
        # Multistep samplers may come by the same level twice.
        before = next((time for time in reversed(times[:at]) if time > now), self.timesteps)
        t = torch.full((len(c),), now, device=x_t.device)
        return scheduler.scale_model_input(x_t, now), t, max(1, int(before - now))

    def draw_noise(self, count: int, generator: torch.Generator, size: int | None = None) -> Tensor:
        """Standard normal noise (B, C, h, w) for ``count`` images of a side in px."""
        side = (size or self.size) // self.stride
        return torch.randn((count, self.channels, side, side), generator=generator)

    def attention_probs(self, x_t: Tensor, t: Tensor, c: Conditioning) -> dict[str, Tensor]:
        """Cross-attention probabilities of one prediction, with their graph.

        Returns:
            By layer, (B, heads, h·w, 77): for every latent pixel of that layer and every token,
            rows that sum to 1.
        """
        from erase.diffusion.attention import recording

        with recording(self.denoiser) as found:
            self.predict(x_t, t, c)
        return found

    def noise(self, seeds: Sequence[int], size: int | tuple[int, int] | None = None) -> Tensor:
        """Starting noise (B, C, h, w); row i depends on seed i and the shape alone.

        Args:
            seeds: one per image.
            size: side, or height and width, of the images in px; None is the model's own.
        """
        height, width = size if isinstance(size, tuple) else 2 * (size or self.size,)
        shape = (self.channels, height // self.stride, width // self.stride)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.stack(rows).to(self.device, self.dtype)

    @torch.no_grad()
    def sample(self, shots: Sequence[Shot], sampler: Sampler) -> NDArray[np.uint8]:
        """Samples a batch of images; the safety checker is off, since black would count as erased.

        Args:
            shots: all of one guidance scale and size.
            sampler: the scheduler, its steps and the size.

        Returns:
            uint8 RGB images (B, H, W, 3).

        Raises:
            UserError: the model's weights are not finite.
        """
        sampler, size = sampler.of(shots)
        c = self.embed([s.prompt for s in shots])
        return self.sample_from(c, [s.seed for s in shots], sampler, size)

    @torch.no_grad()
    def sample_from(
        self,
        c: Conditioning,
        seeds: Sequence[int],
        sampler: Sampler,
        size: tuple[int | None, int | None] | None = None,
    ) -> NDArray[np.uint8]:
        """As ``sample``, of embedded prompts, one row for each seed."""
        scale = sampler.guidance
        height, width = sampler.sides(size, self.size)
        empty = self.unconditional().repeat(len(seeds)) if scale > 1 else None
        scheduler = self.family.sampler(sampler.name)
        compiled = fast(self.denoiser, self._compiled_call) if self.compiled else nullcontext()
        noise = self.noise(seeds, (height, width))
        with compiled:
            x0 = self.family.denoise(
                scheduler, noise, c, empty, steps=sampler.steps, guidance=scale
            )
        return self.decode(x0)

    @cached_property
    def _compiled_call(self) -> Any:
        denoiser: Any = self.denoiser
        return torch.compile(denoiser._call_impl)
