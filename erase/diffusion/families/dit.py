"""Class-conditional transformers in latents: DiTPipeline, as of arXiv 2212.09748."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from erase.diffusion.autoencoder import check_latents, decoded, posterior, stride
from erase.diffusion.classes import ClassConditional, check_labels
from erase.diffusion.samplers import make_sampler
from erase.formats.layouts import INDEX, Classes, Layout, Plain, Read
from erase.formats.supported import check_schedule
from erase.runtime.errors import UserError

PLAIN = Plain(
    "unconditional-image-generation",
    "class-conditional",
    (
        "from diffusers import DDIMScheduler, DiTPipeline",
        "",
        'pipeline = DiTPipeline.from_pretrained("{folder}")',
        "schedule = pipeline.scheduler.config",
        "pipeline.scheduler = DDIMScheduler.from_config(schedule, clip_sample=False)",
        "label = {label}  # {class}",
        "made = pipeline([label], guidance_scale={guidance}, num_inference_steps={steps})",
        "image = made.images[0]",
    ),
    exchanged=False,
    null=1000,
)


def _classes(read: Read) -> Classes:
    """The first name of each label, longer where two share it, and the label after the last.

    Raises:
        UserError: labels without names.
    """
    count = int(read("transformer/config.json").get("num_embeds_ada_norm") or 1000)
    told = read(INDEX).get("id2label")
    if not isinstance(told, dict) or told.keys() != {str(i) for i in range(count)}:
        raise UserError(
            f"The {INDEX} does not name the model's {count} classes (id2label): add their names."
        )
    whole = [str(told[str(i)]) for i in range(count)]
    names = [text.split(",")[0].strip() for text in whole]
    for longer in (whole, [f"{text} ({i})" for i, text in enumerate(whole)]):
        seen = Counter(names)
        names = [n if seen[n] == 1 else other for n, other in zip(names, longer, strict=True)]
    return Classes(tuple(names), count)


def _check(read: Read, source: str) -> None:
    """Refuses a transformer of other latents or conditions; see ``Layout.check``."""
    told, latents = (
        read("transformer/config.json"),
        read("vae/config.json").get("latent_channels", 4),
    )
    taken, made = told.get("in_channels", 4), told.get("out_channels")
    if taken != latents or made not in (None, taken, 2 * taken):
        raise UserError(
            f"The denoiser of {source} has {taken} input and {made} output channels but latents "
            f"of {latents}: give a DiT model."
        )
    if told.get("norm_type", "ada_norm_zero") != "ada_norm_zero":
        raise UserError(
            f"The denoiser of {source} is not told classes as DiT is (norm_type "
            f"{told['norm_type']}): give a DiT model."
        )
    classes = _classes(read)
    check_labels(classes, len(classes.names) + 1, source)
    check_schedule(read("scheduler/scheduler_config.json"), source)


@dataclass(frozen=True)
class DiT(ClassConditional):
    """It may also predict variances, which are dropped."""

    square: ClassVar[bool] = True  # diffusers puts its patches together so
    layout: ClassVar[Layout] = Layout(
        "DiTPipeline",
        {
            "transformer": ("diffusers", "DiTTransformer2DModel"),
            "vae": ("diffusers", "AutoencoderKL"),
        },
        lambda _: "class-conditional",
        _check,
        lambda index: {"id2label": {int(i): name for i, name in index["id2label"].items()}},
        denoiser="transformer",
        aliases={"Transformer2DModel": "DiTTransformer2DModel"},
        classes=_classes,
        plain=PLAIN,
    )

    @property
    def stride(self) -> int:
        """See ``Family``."""
        return stride(self.pipeline.vae)

    @property
    def multiple(self) -> int:
        """See ``Family``: what a patch covers."""
        return self.stride * int(self.pipeline.transformer.config.patch_size)

    def check(self, source: str) -> None:
        """See ``Family``."""
        check_latents(self.pipeline.vae, source)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Family``."""
        return posterior(self.pipeline.vae, images)

    def decode(self, x0: Tensor) -> Tensor:
        """See ``Family``."""
        return decoded(self.pipeline.vae, x0)

    def in_scope(self, scope: str, name: str) -> bool:
        """See ``Family``; what are called norms here are the layers that hear time and class.

        Raises:
            UserError: a scope without them.
        """
        if scope == "full-no-norms":
            raise UserError(
                "The scope 'full-no-norms' would leave out the layers through which a DiT is told "
                "its class, which are called norms: use --scope full."
            )
        return super().in_scope(scope, name)

    def sampler(self, name: str) -> Any:
        """See ``Family``; without variances, since what predicts them is dropped, and without
        clipping, which is for pixels: some schedulers have it by default."""
        config = {**self.pipeline.scheduler.config, "clip_sample": False}
        return make_sampler(name, _without_variance(config))

    def check_sampling(
        self,
        steps: int,
        sampler: str | None,
        flag: str = "--sampling-steps",
        remedy: str = "use another model",
    ) -> None:
        """See ``Family``."""
        variance = str(self.pipeline.scheduler.config.get("variance_type"))
        if sampler is None and variance.startswith("learned"):
            raise UserError(
                "The model's own scheduler draws noise by variances that the model predicts, which "
                f"are dropped here: {remedy}."
            )
        super().check_sampling(steps, sampler, flag, remedy)


def _without_variance(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "variance_type"}


FAMILY = DiT
