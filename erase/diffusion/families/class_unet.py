"""Class-conditional U-Nets in pixels, UNet2DModel: a folder of ours, for no pipeline takes labels.

    unet/            as ``UNet2DModel.save_pretrained`` writes it, ``num_class_embeds`` = K + 1
    scheduler/scheduler_config.json
    classes.json     {"classes": [K names in the order of their labels], "null": K}

``classes.json`` may also say how the model is sampled from, ``"guidance"`` and ``"steps"``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from erase.diffusion.classes import ClassConditional, check_labels
from erase.diffusion.samplers import make_sampler, scheduler
from erase.formats.layouts import Classes, Layout, Plain, Read
from erase.formats.supported import check_schedule
from erase.runtime.errors import UserError, clipped, nearest

FILE = "classes.json"
_KEYS = ("classes", "null", "guidance", "steps")
_SAMPLING = {"guidance": "guidance_scale", "steps": "sampling_steps"}

PLAIN = Plain(
    "unconditional-image-generation",
    "class-conditional",
    (
        "import torch",
        "from diffusers import DDIMScheduler, UNet2DModel",
        "",
        'unet = UNet2DModel.from_pretrained("{folder}", subfolder="unet")',
        'scheduler = DDIMScheduler.from_pretrained("{folder}", subfolder="scheduler")',
        "scheduler.set_timesteps({steps})",
        "labels = torch.tensor([{label}, {null}])  # {class}, and no class",
        "x = torch.randn(1, 3, unet.config.sample_size, unet.config.sample_size)",
        "for t in scheduler.timesteps:",
        "    with torch.no_grad():",
        "        e, e_null = unet(torch.cat([x, x]), t, labels).sample.chunk(2)",
        "    e = e_null + {guidance} * (e - e_null)",
        "    x = scheduler.step(e, t, x, use_clipped_model_output=True).prev_sample",
        "image = (x[0].clamp(-1, 1) + 1) / 2  # (3, H, W), in [0, 1]",
    ),
    exchanged=False,
)


def _classes(read: Read) -> Classes:
    """What ``classes.json`` says.

    Raises:
        UserError: it is not there, or says something else.
    """
    try:
        told = read(FILE)
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise UserError(
                f"The model has no {FILE}, which names its classes: write one, as "
                "docs/class-conditional.md shows."
            ) from error
        raise
    for key in told:
        if key not in _KEYS:
            raise UserError(
                f"{FILE} has the unknown key '{clipped(key)}'.{nearest(key, _KEYS)} It may have "
                f"{', '.join(_KEYS)}."
            )
    names, null = told.get("classes"), told.get("null")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise UserError(f"{FILE} has no list of names as 'classes': name each label's class.")
    if null is not None and type(null) is not int:
        raise UserError(f"{FILE} has a 'null' that is no label: give the label of no class.")
    sampling = {}
    for key, setting in _SAMPLING.items():
        value = told.get(key)
        if value is None:
            continue
        if type(value) not in (int, float if key == "guidance" else int) or value < 1:
            raise UserError(f"{FILE} has the {key} {clipped(value, 20)}: give a number >= 1.")
        sampling[setting] = value
    return Classes(tuple(names), null, sampling)


def _check(read: Read, source: str) -> None:
    """Refuses a denoiser of other images or conditions; see ``Layout.check``."""
    unet = read("unet/config.json")
    told = {key: unet.get(key) for key in ("in_channels", "out_channels")}
    if {key: told[key] or 3 for key in told} != {"in_channels": 3, "out_channels": 3}:
        raise UserError(
            f"The denoiser of {source} has {told['in_channels']} input and "
            f"{told['out_channels']} output channels: give a model of RGB images."
        )
    if unet.get("class_embed_type") is not None or not isinstance(
        unet.get("num_class_embeds"), int
    ):
        raise UserError(
            f"The denoiser of {source} is not told labels (num_class_embeds, without a "
            "class_embed_type): give a class-conditional model."
        )
    if not isinstance(unet.get("sample_size"), int):
        raise UserError(f"{source} does not say the side of its images: set its sample_size.")
    check_labels(_classes(read), unet["num_class_embeds"], source)
    schedule = read("scheduler/scheduler_config.json")
    check_schedule(schedule, source)
    if schedule.get("clip_sample_range", 1) != 1:
        raise UserError(
            f"The scheduler of {source} does not clip to ±1, where pixels lie: set its "
            "clip_sample_range to 1."
        )


@dataclass(frozen=True)
class ClassUNet(ClassConditional):
    """x_0 are the images themselves, in [-1, 1]."""

    layout: ClassVar[Layout] = Layout(
        "DDPMPipeline",
        {"unet": ("diffusers", "UNet2DModel")},
        lambda _: "class-conditional",
        _check,
        lambda _: {},
        index=FILE,
        classes=_classes,
        plain=PLAIN,
    )
    stride: ClassVar[int] = 1

    @property
    def multiple(self) -> int:
        """See ``Family``: as often as the U-Net halves its feature maps."""
        return int(2 ** (len(self.pipeline.unet.config.block_out_channels) - 1))

    def check(self, source: str) -> None:
        """See ``Family``: nothing that its configuration does not say."""

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Family``: the images, certain."""
        return images, torch.zeros_like(images)

    def decode(self, x0: Tensor) -> Tensor:
        """See ``Family``."""
        return x0

    def sampler(self, name: str) -> Any:
        """See ``Family``; x_0 is clipped to ±1, as pixels are, unless the model says otherwise.

        DDIM then goes on with the ε that belongs to the clipped x_0, as improved-diffusion does
        (diffusers leaves that off, and strong guidance turns images grey). DPM-Solver++ calls it
        thresholding, here with nothing but 1 to threshold at.
        """
        import diffusers

        config = self.pipeline.scheduler.config
        if name == "ddim":
            sampler = scheduler(diffusers.DDIMScheduler, config)
            sampler.step = partial(sampler.step, use_clipped_model_output=True)
            return sampler
        sampler = make_sampler(name, config)
        if name == "dpm++" and self.clips:
            sampler.register_to_config(thresholding=True, sample_max_value=1.0)
        return sampler

    @property
    def clips(self) -> bool:
        """Whether the model's own sampler keeps x_0 within ±1, as diffusers' do by default."""
        return bool(self.pipeline.scheduler.config.get("clip_sample", True))

    def check_sampling(
        self,
        steps: int,
        sampler: str | None,
        flag: str = "--sampling-steps",
        remedy: str = "use another model",
    ) -> None:
        """See ``Family``."""
        if sampler == "lms" and self.clips:
            raise UserError(
                "The sampler lms can't keep pixels within their range, as this model's own does: "
                "use --sampler ddim or dpm++."
            )
        super().check_sampling(steps, sampler, flag, remedy)


FAMILY = ClassUNet
