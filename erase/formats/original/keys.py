"""The names of Stable Diffusion's weights: diffusers' and the original (CompVis) layout's.

Both tables map module names, diffusers -> original, one to one; ``rename`` carries a weight over
by its longest known module name. They are derived from the networks' configs alone, so that any
number of levels, layers and attention positions is covered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from erase.runtime.errors import UserError

UNET, VAE = "model.diffusion_model.", "first_stage_model."

_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_RESNET = {
    "norm1": "norm1",
    "conv1": "conv1",
    "norm2": "norm2",
    "conv2": "conv2",
    "conv_shortcut": "nin_shortcut",
}
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_VAE_ENDS = {"conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out"}


def unet_table(config: Mapping[str, Any]) -> dict[str, str]:
    """Module names of a denoiser.

    Args:
        config: of a ``UNet2DConditionModel``.

    Raises:
        UserError: it has blocks that the original layout has no names for.
    """
    down, up = config["down_block_types"], config["up_block_types"]
    known = {"DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"}
    middle = config.get("mid_block_type", "UNetMidBlock2DCrossAttn")
    strange = ({*down, *up} - known) | ({middle} - {"UNetMidBlock2DCrossAttn"})
    if strange:
        raise UserError(
            f"The original Stable Diffusion layout has no place for {', '.join(map(str, strange))}:"
            " keep the diffusers folder."
        )
    table = dict(_UNET_ENDS)

    def resnet(ours: str, theirs: str) -> None:
        table.update({f"{ours}.{a}": f"{theirs}.{b}" for a, b in _UNET_RESNET.items()})

    number = 1  # input block 0 is conv_in
    for level, kind in enumerate(down):
        for layer in range(_layers(config, level)):
            resnet(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{number}.0")
            if kind.startswith("CrossAttn"):
                table[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{number}.1"
            number += 1
        if level < len(down) - 1:
            table[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{number}.0.op"
            number += 1
    resnet("mid_block.resnets.0", "middle_block.0")
    table["mid_block.attentions.0"] = "middle_block.1"
    resnet("mid_block.resnets.1", "middle_block.2")
    number = 0
    for level, kind in enumerate(up):
        layers = _layers(config, len(up) - 1 - level) + 1
        for layer in range(layers):
            resnet(f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{number}.0")
            attention = kind.startswith("CrossAttn")
            if attention:
                table[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{number}.1"
            if layer == layers - 1 and level < len(up) - 1:
                place = f"output_blocks.{number}.{2 if attention else 1}.conv"
                table[f"up_blocks.{level}.upsamplers.0.conv"] = place
            number += 1
    return table


def _layers(config: Mapping[str, Any], level: int) -> int:
    layers = config["layers_per_block"]
    return int(layers if isinstance(layers, int) else layers[level])


def vae_table(config: Mapping[str, Any]) -> dict[str, str]:
    """Module names of an autoencoder.

    Args:
        config: of an ``AutoencoderKL``.
    """
    table = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    levels, layers = len(config["block_out_channels"]), int(config["layers_per_block"])

    def resnet(ours: str, theirs: str) -> None:
        table.update({f"{ours}.{a}": f"{theirs}.{b}" for a, b in _VAE_RESNET.items()})

    for half in ("encoder", "decoder"):
        table.update({f"{half}.{a}": f"{half}.{b}" for a, b in _VAE_ENDS.items()})
        for i in (0, 1):
            resnet(f"{half}.mid_block.resnets.{i}", f"{half}.mid.block_{i + 1}")
        for a, b in _VAE_ATTENTION.items():
            table[f"{half}.mid_block.attentions.0.{a}"] = f"{half}.mid.attn_1.{b}"
    for i in range(levels):
        down, up = f"encoder.down.{i}", f"decoder.up.{levels - 1 - i}"
        for j in range(layers):
            resnet(f"encoder.down_blocks.{i}.resnets.{j}", f"{down}.block.{j}")
        for j in range(layers + 1):
            resnet(f"decoder.up_blocks.{i}.resnets.{j}", f"{up}.block.{j}")
        table[f"encoder.down_blocks.{i}.downsamplers.0.conv"] = f"{down}.downsample.conv"
        table[f"decoder.up_blocks.{i}.upsamplers.0.conv"] = f"{up}.upsample.conv"
    return table


def rename(name: str, table: Mapping[str, str]) -> str | None:
    """A weight's name in the other layout; None where the table has no place for it."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = table.get(".".join(parts[:length]))
        if module is not None:
            return ".".join([module, *parts[length:]])
    return None


def is_attention_matrix(name: str) -> bool:
    """Whether an autoencoder weight (original name) is a 1 x 1 convolution there, a matrix here."""
    module, _, kind = name.rpartition(".")
    return kind == "weight" and ".attn_1." in name and not module.endswith(".norm")
