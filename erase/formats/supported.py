"""What a model's configuration asks for and is not done here, refused before any work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erase.formats.base import PREDICTIONS
from erase.runtime.errors import UserError

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
_BLOCKS = (
    *("DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
    *("UNetMidBlock2D", "UNetMidBlock2DCrossAttn", None),
)


def refuse_unsupported(
    unet: Mapping[str, Any], scheduler: Mapping[str, Any], source: str, *, xl: bool
) -> None:
    """Refuses models that would be trained on another function than they are sampled from.

    Args:
        unet, scheduler: configurations.
        source: what the model is called in messages.
        xl: whether it has two text encoders.

    Raises:
        UserError: a denoiser with inputs or layers that training would leave out, no noise
            schedule, or a prediction that is neither ε nor v.
    """
    if unet.get("time_cond_proj_dim") is not None:
        raise UserError(
            f"{source} has guidance distilled into its denoiser (time_cond_proj_dim), as LCM has, "
            "which training would ignore: give the model that it was distilled from."
        )
    wanted = {**_PLAIN, "addition_embed_type": "text_time" if xl else None}
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
    kind = scheduler.get("_class_name")
    continuous = scheduler.get("timestep_type") == "continuous" or scheduler.get("use_flow_sigmas")
    if continuous or not {"beta_schedule", "num_train_timesteps"} <= scheduler.keys():
        raise UserError(
            f"The scheduler of {source} ({kind}) has no noise schedule of discrete steps: give a "
            "Stable Diffusion 1, 2 or XL model."
        )
    predicted = scheduler.get("prediction_type", "epsilon")
    if predicted not in PREDICTIONS:
        raise UserError(
            f"{source} predicts '{predicted}', which is not supported: use a model that predicts "
            "epsilon or v."
        )


def own_scheduler(folder: Path) -> Any:
    """The scheduler of a pipeline folder, no network opened.

    Raises:
        UserError: it can't be read, or diffusers has no such class.
    """
    import diffusers

    file = folder / "scheduler" / "scheduler_config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        kind = getattr(diffusers, config["_class_name"])
        if not issubclass(kind, diffusers.SchedulerMixin):
            raise ValueError(f"{kind.__name__} is not a scheduler")
        return kind.from_config(config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise UserError(f"The scheduler {file} can't be opened ({error}): restore it.") from error


def _not_of_ours(source: str, key: str, value: object) -> UserError:
    return UserError(
        f"The denoiser of {source} has {key} = {value}, which is not supported: give a Stable "
        "Diffusion 1, 2 or XL model."
    )
