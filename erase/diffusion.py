"""The one boundary to diffusers and transformers: a latent diffusion model in the equations' verbs.

Everything behind it works in prediction space and never asks whether the model predicts the
noise or the velocity.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from erase.errors import UserError

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

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
    """A latent diffusion model: denoiser, autoencoder, text encoder, noise schedule.

    Attributes:
        pipeline: the diffusers pipeline that holds the components.
        source: what the user called it.
        device: where it computes.
        dtype: of the autoencoder and the text encoder, and of sampling.
    """

    pipeline: StableDiffusionPipeline
    source: str
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32

    @classmethod
    def load(
        cls, source: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> Diffusion:
        """Opens ``mini``, a hub id, a diffusers folder or a single file.

        Raises:
            UserError: nothing there, or no Stable Diffusion pipeline.
        """
        from erase.checkpoint import load_pipeline

        pipeline = load_pipeline(source, dtype)
        pipeline.set_progress_bar_config(disable=True)
        for component in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            component.to(device).requires_grad_(False).eval()
        return cls(pipeline, source, torch.device(device), dtype)

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

    def frozen(self) -> Diffusion:
        """The same model with a copy θ0 of the denoiser that training does not move."""
        from erase.checkpoint import quiet

        parts = dict(self.pipeline.components)
        parts["unet"] = copy.deepcopy(self.denoiser).requires_grad_(False).eval()
        with quiet():
            pipeline = type(self.pipeline)(**parts, requires_safety_checker=False)
        pipeline.set_progress_bar_config(disable=True)
        return replace(self, pipeline=pipeline)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings (B, 77, D) of the prompts, each cut off at 77 tokens."""
        tokens = self.pipeline.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.pipeline.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        encoder = self.pipeline.text_encoder
        mask = None
        if getattr(encoder.config, "use_attention_mask", False):
            mask = tokens.attention_mask.to(self.device)
        hidden: Tensor = encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0]
        return hidden

    @torch.no_grad()
    def last_token(self, prompts: Sequence[str]) -> Tensor:
        """Hidden states (B, D) of the last token before end-of-text; of the start if empty."""
        tokenizer = self.pipeline.tokenizer
        length = tokenizer.model_max_length
        ids = tokenizer(list(prompts), truncation=True, max_length=length).input_ids
        ends = torch.tensor([len(row) - 2 for row in ids])
        parts = [self.embed(prompts[i : i + 64]) for i in range(0, len(prompts), 64)]
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
        posterior = vae.encode(x.to(self.device, self.dtype) / 127.5 - 1).latent_dist
        both = torch.stack([posterior.mean, posterior.std], 1)
        scaled: Tensor = both * vae.config.scaling_factor
        return scaled

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε, for t (B,) in [0, T)."""
        x_t: Tensor = self.pipeline.scheduler.add_noise(x0, noise, t)
        return x_t

    def predict(self, x_t: Tensor, t: Tensor, c: Tensor) -> Tensor:
        """The denoiser's prediction at (x_t, t) given embeddings c; keeps the graph."""
        predicted: Tensor = self.denoiser(x_t, t, c).sample
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
            alphas = self.pipeline.scheduler.alphas_cumprod.to(x0)[t].view(-1, 1, 1, 1)
            v: Tensor = alphas.sqrt() * noise - (1 - alphas).sqrt() * x0
            return v
        raise UserError(f"Models that predict '{kind}' are not supported: use epsilon or v.")

    @torch.no_grad()
    def denoise_to(
        self,
        done: int,
        c: Tensor,
        empty: Tensor,
        *,
        steps: int,
        guidance: float,
        noise: Tensor,
    ) -> tuple[Tensor, Tensor, int]:
        """x_t from pure noise, after the first steps of a deterministic DDIM sampler.

        Args:
            done: steps taken, in [0, ``steps``).
            c, empty: embeddings (B, 77, D) of the prompts and of the empty one.
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
        x_t = noise.to(c) * scheduler.init_noise_sigma
        for now in times[:done]:
            t = torch.full((len(c),), now, device=c.device)
            if guidance > 1:
                both = self.predict(x_t.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([c, empty]))
                conditional, unconditional = both.chunk(2)
                predicted = unconditional + guidance * (conditional - unconditional)
            else:
                predicted = self.predict(x_t, t, c)
            x_t = scheduler.step(predicted.to(x_t), now, x_t).prev_sample
        gap = (times[done - 1] if done else self.timesteps) - times[done]
        return x_t, torch.full((len(c),), times[done], device=c.device), gap

    def draw_noise(self, count: int, generator: torch.Generator, size: int | None = None) -> Tensor:
        """Standard normal noise (B, C, h, w) for ``count`` images of a side in px."""
        side = (size or self.size) // self.stride
        shape = (count, int(self.pipeline.unet.config.in_channels), side, side)
        return torch.randn(shape, generator=generator)

    def attention_probs(self, x_t: Tensor, t: Tensor, c: Tensor) -> dict[str, Tensor]:
        """Cross-attention probabilities of one prediction, with their graph.

        Returns:
            By layer, (B, heads, h·w, 77): for every latent pixel of that layer and every token,
            rows that sum to 1.
        """
        from erase.attention import recording

        with recording(self.denoiser) as found:
            self.predict(x_t, t, c)
        return found

    def token_positions(self, prompts: Sequence[str], word: str, end: bool = False) -> Tensor:
        """Where the tokens of ``word`` stand in each prompt: bool (B, 77).

        Args:
            prompts: each with the word, which may be the whole prompt.
            word: looked for without regard to case.
            end: whether the first end-of-text token counts too.

        Raises:
            UserError: a prompt without the word.
        """
        tokenizer = self.pipeline.tokenizer
        length = tokenizer.model_max_length
        wanted = tokenizer(word, add_special_tokens=False).input_ids
        found = torch.zeros(len(prompts), length, dtype=torch.bool)
        for row, prompt in zip(found, prompts, strict=True):
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
        with self._scheduler(sampler) as pipeline:
            empty = self.embed([""]).expand(len(shots), -1, -1) if scale > 1 else None
            images = pipeline(
                prompt_embeds=self.embed([s.prompt for s in shots]),
                negative_prompt_embeds=empty,
                latents=self.noise([s.seed for s in shots], (height, width)),
                num_inference_steps=sampler.steps,
                guidance_scale=scale,
                height=height,
                width=width,
                output_type="np",
            ).images
        if not np.isfinite(images).all():
            # Black images would count as erased.
            raise UserError(f"{self.source} makes images that are not finite: its weights are bad.")
        return np.asarray((images * 255).round(), dtype=np.uint8)

    @contextmanager
    def _scheduler(self, sampler: Sampler) -> Iterator[Any]:
        """The pipeline with the sampler's scheduler and no safety checker, restored afterwards."""
        import diffusers

        pipeline = self.pipeline
        kept, checker = pipeline.scheduler, pipeline.safety_checker
        match sampler.name:
            case "ddim":
                scheduler = diffusers.DDIMScheduler.from_config(kept.config)
            case "dpm++":
                scheduler = diffusers.DPMSolverMultistepScheduler.from_config(kept.config)
            case "lms":
                scheduler = diffusers.LMSDiscreteScheduler.from_config(kept.config)
            case _:
                raise ValueError(sampler.name)
        pipeline.scheduler, pipeline.safety_checker = scheduler, None
        try:
            yield pipeline
        finally:
            pipeline.scheduler, pipeline.safety_checker = kept, checker
