"""What a model's configuration asks for and is not done here, refused before any work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from erase.runtime.errors import UserError, clipped

PREDICTIONS = ("epsilon", "v_prediction")
_PLAIN: Mapping[str, Any] = {
    "class_embed_type": None,
    "num_class_embeds": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "attention_type": "default",
    "dual_cross_attention": False,
    "only_cross_attention": False,
    "cross_attention_norm": None,
}
"""Settings of a denoiser that would want further inputs, or have scopes miss its attention."""
_CONDITIONS = ("class_embed_type", "num_class_embeds", "encoder_hid_dim", "addition_embed_type")
_BLOCKS = (
    *("DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
    *("UNetMidBlock2D", "UNetMidBlock2DCrossAttn", None),
)


def refuse_unsupported(
    unet: Mapping[str, Any], scheduler: Mapping[str, Any], source: str, *, added: str | None
) -> None:
    """Refuses models that would be trained on another function than they are sampled from.

    Args:
        unet, scheduler: configurations.
        source: what the model is called in messages.
        added: what the denoiser embeds beside the time, in its family.

    Raises:
        UserError: a denoiser with inputs or layers that training would leave out, no noise
            schedule, or a prediction that is neither ε nor v.
    """
    if unet.get("time_cond_proj_dim") is not None:
        raise UserError(
            f"{source} has guidance distilled into its denoiser (time_cond_proj_dim), like LCM, "
            "which training would ignore: give the model that it was distilled from."
        )
    wanted = {**_PLAIN, "addition_embed_type": added}
    for key, plain in wanted.items():
        value = unet.get(key, _PLAIN.get(key))
        each = value if isinstance(value, list | tuple) else [value]
        if any(one != plain for one in each):
            raise _not_of_ours(source, key, value)
    blocks = [*unet["down_block_types"], unet.get("mid_block_type"), *unet["up_block_types"]]
    for block in blocks:
        if block not in _BLOCKS:
            raise _not_of_ours(source, "a block", block)
    if not isinstance(unet.get("sample_size"), int):
        raise _not_of_ours(source, "sample_size", unet.get("sample_size"))
    check_schedule(scheduler, source)


def check_schedule(scheduler: Mapping[str, Any], source: str) -> None:
    """Refuses noise that does not come in discrete steps, and predictions of something else.

    Args:
        scheduler: its configuration.
        source: what the model is called in messages.

    Raises:
        UserError: no noise schedule, or a prediction that is neither ε nor v.
    """
    kind = scheduler.get("_class_name")
    continuous = scheduler.get("timestep_type") == "continuous" or scheduler.get("use_flow_sigmas")
    if continuous or not {"beta_schedule", "num_train_timesteps"} <= scheduler.keys():
        raise UserError(
            f"The scheduler of {source} ({kind}) has no noise schedule of discrete steps: give a "
            "model that was trained with one."
        )
    predicted = scheduler.get("prediction_type", "epsilon")
    if predicted not in PREDICTIONS:
        raise UserError(
            f"{source} predicts '{predicted}', which is not supported: use a model that predicts "
            "epsilon or v."
        )


def check_denoiser(
    unet: Mapping[str, Any], vae: Mapping[str, Any], source: str, *, added: str | None
) -> None:
    """Refuses a denoiser that wants more than a noisy latent, a time and a text.

    Args:
        unet, vae: their configurations.
        source: the model in messages.
        added: what it embeds beside the time, in its family.

    Raises:
        UserError: it inpaints, is given images, or is conditioned on something else.
    """
    latents = vae.get("latent_channels", 4)
    channels = [unet.get(key, 4) for key in ("in_channels", "out_channels")]
    if channels != [latents, latents]:
        raise UserError(
            f"The denoiser of {source} has {clipped(channels[0], 20)} input and "
            f"{clipped(channels[1], 20)} output channels but latents of {clipped(latents, 20)}, "
            "like models that inpaint or take images, which are not supported: give a "
            "text-to-image model."
        )
    for key in _CONDITIONS:
        if unet.get(key) not in (None, added if key == "addition_embed_type" else None):
            raise UserError(
                f"The denoiser of {source} is conditioned on more than text ({key}), which is "
                "not supported: give a text-to-image model."
            )


def _not_of_ours(source: str, key: str, value: object) -> UserError:
    return UserError(
        f"The denoiser of {source} has {key} = {value}, which is not supported: give a Stable "
        "Diffusion 1, 2 or XL model."
    )
