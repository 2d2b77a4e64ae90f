"""The one boundary to diffusers and transformers: a latent diffusion model in the equations' verbs.

Everything behind it works in prediction space and never asks whether the model predicts the
noise or the velocity, nor how many text encoders it has.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from erase.conditioning import Conditioning, join
from erase.errors import UserError

SAMPLERS = ("ddim", "dpm++", "lms")


@dataclass(frozen=True)
class Shot:
    """One image to be sampled.

    Attributes:
        prompt: the text c.
        seed: of the starting noise, which depends on nothing else.
        guidance: guidance scale of this image; None takes the sampler's.
        size: height and width of this image in px, each None for the model's own; the sampler's
            size goes before it.
    """

    prompt: str
    seed: int
    guidance: float | None = None
    size: tuple[int | None, int | None] | None = None


@dataclass(frozen=True)
class Sampler:
    """How images are sampled from noise.

    Attributes:
        name: ``ddim`` (arXiv 2010.02502), ``dpm++`` (multistep, arXiv 2211.01095) or ``lms``.
        steps: denoising steps, >= 1.
        guidance: classifier-free guidance scale; 1 is none.
        size: side of the square image in px; None is the model's own.
    """

    name: str = "ddim"
    steps: int = 50
    guidance: float = 7.5
    size: int | None = None


@dataclass(frozen=True)
class Diffusion:
    """A latent diffusion model: denoiser, autoencoder, text encoders, noise schedule.

    Attributes:
        pipeline: the diffusers pipeline that holds the components.
        source: what the user called it.
        device: where it computes.
        dtype: of the text encoders, and of sampling; the autoencoder computes in fp32.
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
    ) -> Diffusion:
        """Opens ``mini``, a hub id, a diffusers folder or a single file.

        Args:
            source: see ``checkpoint.open_base``.
            device, dtype, compiled: see the class.
            channels_last: lay feature maps out pixel by pixel, which recent GPUs are faster with.

        Raises:
            UserError: nothing there, or no Stable Diffusion pipeline.
        """
        from erase.checkpoint import load_pipeline

        pipeline = load_pipeline(source, dtype)
        pipeline.set_progress_bar_config(disable=True)
        loaded = cls(pipeline, source, torch.device(device), dtype, compiled)
        for name, network in loaded.networks.items():
            network.to(device).requires_grad_(False).eval()
            if channels_last and name in ("unet", "vae"):
                nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return loaded

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The components that have weights, by their names in the pipeline."""
        names = ("unet", "vae", "text_encoder", "text_encoder_2")
        found = {name: getattr(self.pipeline, name, None) for name in names}
        return {name: network for name, network in found.items() if network is not None}

    @property
    def text_encoders(self) -> list[tuple[Any, Any]]:
        """Each text encoder with its tokenizer: one, or SDXL's two."""
        p = self.pipeline
        second = getattr(p, "text_encoder_2", None)
        return [(p.tokenizer, p.text_encoder), *([(p.tokenizer_2, second)] if second else [])]

    @property
    def denoiser(self) -> nn.Module:
        """ε_θ (or v_θ), the network that forgets."""
        unet: nn.Module = self.pipeline.unet
        return unet

    @property
    def size(self) -> int:
        """The model's own image side in px."""
        return int(self.pipeline.unet.config.sample_size) * self.stride

    @property
    def stride(self) -> int:
        """Image px per latent px."""
        levels = len(self.pipeline.vae.config.block_out_channels)
        return int(2 ** (levels - 1))

    @property
    def timesteps(self) -> int:
        """Number T of noise levels the model was trained with; t runs over 0 … T-1."""
        return int(self.pipeline.scheduler.config.num_train_timesteps)

    @cached_property
    def schedule(self) -> Any:
        """The noise schedule √ᾱ of training; the pipeline's sampler may scale x_t otherwise."""
        from diffusers import DDPMScheduler

        return DDPMScheduler.from_config(self.pipeline.scheduler.config)

    def frozen(self) -> Diffusion:
        """The same model with a copy θ0 of the denoiser that training does not move."""
        pipeline = copy.copy(self.pipeline)
        pipeline.register_modules(unet=copy.deepcopy(self.denoiser).requires_grad_(False).eval())
        return replace(self, pipeline=pipeline)

    def lighten(self) -> None:
        """Makes training small: the denoiser in bf16, its activations computed again on the way
        back, and the other networks, which have done their work, off the device."""
        unet: Any = self.denoiser
        nn.Module.to(unet, torch.bfloat16)  # diffusers' own warns about what does not matter here
        unet.enable_gradient_checkpointing()
        for name, network in self.networks.items():
            if name != "unet":
                network.to("cpu")

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Conditioning:
        """The embedded prompts, each cut off at 77 tokens."""
        tokens = [
            tokenizer(
                list(prompts),
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )
            for tokenizer, _ in self.text_encoders
        ]
        return self.encode_text([t.input_ids for t in tokens], tokens[0].attention_mask)

    def encode_text(self, ids: Sequence[Tensor], mask: Tensor | None = None) -> Conditioning:
        """What the text encoders make of tokens; keeps the graph.

        Args:
            ids: token ids (B, 77), one tensor per text encoder.
            mask: attention mask (B, 77), looked at by models that say so.
        """
        encoders = [encoder for _, encoder in self.text_encoders]
        if len(encoders) == 1:
            used = getattr(encoders[0].config, "use_attention_mask", False) and mask is not None
            place = encoders[0].device
            masked = mask.to(place) if used and mask is not None else None
            hidden = encoders[0](ids[0].to(place), attention_mask=masked)[0]
            return Conditioning(hidden.to(self.device))
        found = [
            encoder(rows.to(encoder.device), output_hidden_states=True)
            for encoder, rows in zip(encoders, ids, strict=True)
        ]
        hidden = torch.cat([f.hidden_states[-2] for f in found], -1)
        return Conditioning(hidden.to(self.device), found[-1].text_embeds.to(self.device))

    def unconditional(self) -> Conditioning:
        """∅, one row: the empty prompt, or zeros in models that were trained so (SDXL)."""
        empty = self.embed([""])
        if not self.pipeline.config.get("force_zeros_for_empty_prompt", False):
            return empty
        assert empty.pooled is not None
        return Conditioning(torch.zeros_like(empty.hidden), torch.zeros_like(empty.pooled))

    @torch.no_grad()
    def last_token(self, prompts: Sequence[str]) -> Tensor:
        """Hidden states (B, D) of the last token before end-of-text; of the start if empty."""
        tokenizer = self.pipeline.tokenizer
        length = tokenizer.model_max_length
        ids = tokenizer(list(prompts), truncation=True, max_length=length).input_ids
        ends = torch.tensor([len(row) - 2 for row in ids])
        parts = [self.embed(prompts[i : i + 64]).hidden for i in range(0, len(prompts), 64)]
        hidden = torch.cat(parts)
        return hidden[torch.arange(len(ids)), ends.to(hidden.device)]

    @torch.no_grad()
    def encode(self, images: NDArray[np.uint8]) -> Tensor:
        """The autoencoder's posterior over latents x_0: means and standard deviations.

        Args:
            images: uint8 RGB (B, H, W, 3), H and W divisible by ``stride``.

        Returns:
            (B, 2, C, h, w), scaled to the denoiser's range; x_0 = mean + std·noise.
        """
        vae = self.pipeline.vae
        x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
        posterior = vae.encode(x.to(vae.device, vae.dtype) / 127.5 - 1).latent_dist
        both = torch.stack([posterior.mean, posterior.std], 1)
        scaled: Tensor = both * vae.config.scaling_factor
        return scaled.to(self.device)

    @torch.no_grad()
    def decode(self, x0: Tensor) -> NDArray[np.uint8]:
        """Images, uint8 RGB (B, H, W, 3), of latents x_0 (B, C, h, w).

        Raises:
            UserError: the model's weights are not finite.
        """
        vae = self.pipeline.vae
        x = vae.decode(x0.to(vae.device, vae.dtype) / vae.config.scaling_factor).sample
        if not bool(torch.isfinite(x).all()):
            # Black images would count as erased.
            raise UserError(f"{self.source} makes images that are not finite: its weights are bad.")
        unit = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()
        return np.asarray((unit * 255).round(), dtype=np.uint8)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε, for t (B,) in [0, T)."""
        x_t: Tensor = self.schedule.add_noise(x0, noise, t)
        return x_t

    def predict(self, x_t: Tensor, t: Tensor, c: Conditioning) -> Tensor:
        """The denoiser's prediction at (x_t, t) given c, in its precision; keeps the graph.

        SDXL is told that x_t is the whole of an image of its own size, as in sampling.
        """
        dtype = next(self.denoiser.parameters()).dtype
        added = None
        if c.pooled is not None:
            height, width = (self.stride * side for side in x_t.shape[-2:])
            whole = torch.tensor([height, width, 0, 0, height, width])
            ids = whole.expand(len(c), -1).to(x_t.device, dtype)
            added = {"text_embeds": c.pooled.to(dtype), "time_ids": ids}
        predicted: Tensor = self.denoiser(
            x_t.to(dtype), t, c.hidden.to(dtype), added_cond_kwargs=added
        ).sample
        return predicted

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What a perfect denoiser would predict: ε, or v = √ᾱ ε - √(1-ᾱ) x_0.

        Raises:
            UserError: the model predicts something else.
        """
        kind = self.pipeline.scheduler.config.prediction_type
        if kind == "epsilon":
            return noise
        if kind == "v_prediction":
            v: Tensor = self.schedule.get_velocity(x0, noise, t)
            return v
        raise UserError(f"Models that predict '{kind}' are not supported: use epsilon or v.")

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
    ) -> tuple[Tensor, Tensor, int]:
        """x_t from pure noise, after the first steps of a deterministic DDIM sampler.

        Args:
            done: steps taken, in [0, ``steps``).
            c, empty: the embedded prompts and ∅, B rows each.
            steps: of the whole sampler.
            guidance: classifier-free guidance scale; 1 is none.
            noise: standard normal (B, C, h, w), see ``draw_noise``.

        Returns:
            x_t (B, C, h, w), its timesteps t (B,), and how many timesteps lie between t and the
            step before it.
        """
        import diffusers

        scheduler = diffusers.DDIMScheduler.from_config(self.pipeline.scheduler.config)
        scheduler.set_timesteps(steps)
        times = scheduler.timesteps.tolist()
        x_t = noise.to(c.hidden) * scheduler.init_noise_sigma
        for now in times[:done]:
            t = torch.full((len(c),), now, device=x_t.device)
            if guidance > 1:
                both = self.predict(x_t.repeat(2, 1, 1, 1), t.repeat(2), join([c, empty]))
                conditional, unconditional = both.to(x_t).chunk(2)
                predicted = unconditional + guidance * (conditional - unconditional)
            else:
                predicted = self.predict(x_t, t, c)
            x_t = scheduler.step(predicted.to(x_t), now, x_t).prev_sample
        gap = (times[done - 1] if done else self.timesteps) - times[done]
        return x_t, torch.full((len(c),), times[done], device=x_t.device), gap

    def draw_noise(self, count: int, generator: torch.Generator, size: int | None = None) -> Tensor:
        """Standard normal noise (B, C, h, w) for ``count`` images of a side in px."""
        side = (size or self.size) // self.stride
        shape = (count, int(self.pipeline.unet.config.in_channels), side, side)
        return torch.randn(shape, generator=generator)

    def attention_probs(self, x_t: Tensor, t: Tensor, c: Conditioning) -> dict[str, Tensor]:
        """Cross-attention probabilities of one prediction, with their graph.

        Its activations are kept: those that are looked at can't be computed again.

        Returns:
            By layer, (B, heads, h·w, 77): for every latent pixel of that layer and every token,
            rows that sum to 1.
        """
        from erase.attention import recording

        unet: Any = self.denoiser
        again = unet.is_gradient_checkpointing
        unet.disable_gradient_checkpointing()
        try:
            with recording(unet) as found:
                self.predict(x_t, t, c)
        finally:
            if again:
                unet.enable_gradient_checkpointing()
        return found

    def token_positions(
        self, prompts: Sequence[str], words: str | Sequence[str], end: bool = False
    ) -> Tensor:
        """Where the tokens of a word stand in each prompt: bool (B, 77).

        Args:
            prompts: each with its word, which may be the whole prompt.
            words: of all prompts, or of each; looked for without regard to case.
            end: whether the first end-of-text token counts too.

        Raises:
            UserError: a prompt without the word.
        """
        tokenizer = self.pipeline.tokenizer
        length = tokenizer.model_max_length
        each = [words] * len(prompts) if isinstance(words, str) else words
        found = torch.zeros(len(prompts), length, dtype=torch.bool)
        for row, prompt, word in zip(found, prompts, each, strict=True):
            wanted = tokenizer(word, add_special_tokens=False).input_ids
            ids = tokenizer(prompt, truncation=True, max_length=length).input_ids
            starts = [i for i in range(len(ids)) if wanted and ids[i : i + len(wanted)] == wanted]
            if not starts:
                raise UserError(
                    f"The word '{word}' is not in the prompt '{prompt}': choose prompts with it."
                )
            for i in starts:
                row[i : i + len(wanted)] = True
            row[len(ids) - 1] |= end
        return found.to(self.device)

    def noise(self, seeds: Sequence[int], size: int | tuple[int, int] | None = None) -> Tensor:
        """Starting noise (B, C, h, w); row i depends on seed i and the shape alone.

        Args:
            seeds: one per image.
            size: side, or height and width, of the images in px; None is the model's own.
        """
        height, width = size if isinstance(size, tuple) else 2 * (size or self.size,)
        channels = int(self.pipeline.unet.config.in_channels)
        shape = (channels, height // self.stride, width // self.stride)
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
        guidance = {s.guidance if s.guidance is not None else sampler.guidance for s in shots}
        sizes = {s.size for s in shots}
        if len(guidance) != 1 or len(sizes) != 1:
            raise ValueError("a batch has one guidance scale and one size")
        scale = guidance.pop()
        height, width = (sampler.size or side or self.size for side in sizes.pop() or (None, None))
        c = self.embed([s.prompt for s in shots])
        told: dict[str, Any] = {"prompt_embeds": c.hidden}
        if c.pooled is not None:
            told["pooled_prompt_embeds"] = c.pooled
        if scale > 1:
            empty = self.unconditional().repeat(len(shots))
            told["negative_prompt_embeds"] = empty.hidden
            if empty.pooled is not None:
                told["negative_pooled_prompt_embeds"] = empty.pooled
        with self._scheduler(sampler) as pipeline, self._fast():
            latents = pipeline(
                **told,
                latents=self.noise([s.seed for s in shots], (height, width)),
                num_inference_steps=sampler.steps,
                guidance_scale=scale,
                height=height,
                width=width,
                output_type="latent",
            ).images
        return self.decode(latents)

    @cached_property
    def _compiled_call(self) -> Any:
        unet: Any = self.denoiser
        return torch.compile(unet._call_impl)

    @contextmanager
    def _fast(self) -> Iterator[None]:
        """The denoiser compiled, where asked for: for sampling alone, since training reads its
        attention and recomputes its activations."""
        if not self.compiled:
            yield
            return
        unet: Any = self.denoiser
        unet._compiled_call_impl = self._compiled_call
        try:
            yield
        finally:
            unet._compiled_call_impl = None

    @contextmanager
    def _scheduler(self, sampler: Sampler) -> Iterator[Any]:
        """The pipeline with the sampler's scheduler and no safety checker, restored afterwards."""
        import diffusers

        pipeline = self.pipeline
        kept, checker = pipeline.scheduler, getattr(pipeline, "safety_checker", None)
        match sampler.name:
            case "ddim":
                scheduler = diffusers.DDIMScheduler.from_config(kept.config)
            case "dpm++":
                scheduler = diffusers.DPMSolverMultistepScheduler.from_config(kept.config)
            case "lms":
                scheduler = diffusers.LMSDiscreteScheduler.from_config(kept.config)
            case _:
                raise ValueError(sampler.name)
        pipeline.scheduler = scheduler
        if checker is not None:
            pipeline.safety_checker = None
        try:
            yield pipeline
        finally:
            pipeline.scheduler = kept
            if checker is not None:
                pipeline.safety_checker = checker
