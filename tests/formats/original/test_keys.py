"""Key names of the original layout, against names written down from published SD 1.4 files."""

from __future__ import annotations

import pytest

from erase.formats.original.keys import is_attention_matrix, rename, unet_table, vae_table
from erase.runtime.errors import UserError

SD14_UNET = {
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "layers_per_block": 2,
}
SD14_VAE = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}

ATTN2 = "transformer_blocks.0.attn2"
UNET_NAMES = {
    "conv_in.weight": "input_blocks.0.0.weight",
    "time_embedding.linear_1.weight": "time_embed.0.weight",
    "time_embedding.linear_2.bias": "time_embed.2.bias",
    f"down_blocks.0.attentions.0.{ATTN2}.to_k.weight": f"input_blocks.1.1.{ATTN2}.to_k.weight",
    "down_blocks.0.attentions.1.proj_in.weight": "input_blocks.2.1.proj_in.weight",
    "down_blocks.0.downsamplers.0.conv.weight": "input_blocks.3.0.op.weight",
    "down_blocks.1.resnets.0.conv_shortcut.weight": "input_blocks.4.0.skip_connection.weight",
    "down_blocks.2.attentions.1.transformer_blocks.0.ff.net.0.proj.weight":
        "input_blocks.8.1.transformer_blocks.0.ff.net.0.proj.weight",
    "down_blocks.2.downsamplers.0.conv.bias": "input_blocks.9.0.op.bias",
    "down_blocks.3.resnets.1.time_emb_proj.weight": "input_blocks.11.0.emb_layers.1.weight",
    "mid_block.resnets.0.norm1.weight": "middle_block.0.in_layers.0.weight",
    f"mid_block.attentions.0.{ATTN2}.to_out.0.bias": f"middle_block.1.{ATTN2}.to_out.0.bias",
    "mid_block.resnets.1.conv2.weight": "middle_block.2.out_layers.3.weight",
    "up_blocks.0.resnets.0.conv1.weight": "output_blocks.0.0.in_layers.2.weight",
    "up_blocks.0.upsamplers.0.conv.weight": "output_blocks.2.1.conv.weight",
    f"up_blocks.1.attentions.0.{ATTN2}.to_v.weight": f"output_blocks.3.1.{ATTN2}.to_v.weight",
    "up_blocks.1.upsamplers.0.conv.weight": "output_blocks.5.2.conv.weight",
    "up_blocks.2.upsamplers.0.conv.bias": "output_blocks.8.2.conv.bias",
    "up_blocks.3.resnets.2.norm2.bias": "output_blocks.11.0.out_layers.0.bias",
    "up_blocks.3.attentions.2.norm.weight": "output_blocks.11.1.norm.weight",
    "conv_norm_out.weight": "out.0.weight",
    "conv_out.bias": "out.2.bias",
}  # fmt: skip
VAE_NAMES = {
    "encoder.conv_in.weight": "encoder.conv_in.weight",
    "encoder.down_blocks.0.resnets.1.norm1.weight": "encoder.down.0.block.1.norm1.weight",
    "encoder.down_blocks.1.resnets.0.conv_shortcut.weight":
        "encoder.down.1.block.0.nin_shortcut.weight",
    "encoder.down_blocks.2.downsamplers.0.conv.bias": "encoder.down.2.downsample.conv.bias",
    "encoder.mid_block.resnets.0.conv1.weight": "encoder.mid.block_1.conv1.weight",
    "encoder.mid_block.attentions.0.to_q.weight": "encoder.mid.attn_1.q.weight",
    "decoder.mid_block.attentions.0.group_norm.weight": "decoder.mid.attn_1.norm.weight",
    "decoder.mid_block.attentions.0.to_out.0.bias": "decoder.mid.attn_1.proj_out.bias",
    "decoder.mid_block.resnets.1.conv2.weight": "decoder.mid.block_2.conv2.weight",
    "decoder.up_blocks.0.resnets.2.conv1.weight": "decoder.up.3.block.2.conv1.weight",
    "decoder.up_blocks.0.upsamplers.0.conv.weight": "decoder.up.3.upsample.conv.weight",
    "decoder.up_blocks.3.resnets.0.conv_shortcut.bias": "decoder.up.0.block.0.nin_shortcut.bias",
    "decoder.conv_norm_out.weight": "decoder.norm_out.weight",
    "quant_conv.weight": "quant_conv.weight",
    "post_quant_conv.bias": "post_quant_conv.bias",
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "names"), [(unet_table(SD14_UNET), UNET_NAMES), (vae_table(SD14_VAE), VAE_NAMES)]
)
def test_published_names_both_ways(table: dict[str, str], names: dict[str, str]) -> None:
    back = {b: a for a, b in table.items()}
    assert len(back) == len(table)
    for ours, theirs in names.items():
        assert rename(ours, table) == theirs
        assert rename(theirs, back) == ours


def test_every_weight_of_sd14_has_a_place_of_its_own() -> None:
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with init_empty_weights():
        unet = UNet2DConditionModel(cross_attention_dim=768)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
    for network, table, count in (
        (unet, unet_table(SD14_UNET), 686),  # tensors in the published files
        (vae, vae_table(SD14_VAE), 248),
    ):
        names = [rename(n, table) for n in network.state_dict()]
        assert None not in names
        assert len(set(names)) == len(names) == count


def test_unknown_names_and_blocks_have_no_place() -> None:
    table = unet_table(SD14_UNET)
    assert rename("class_embedding.weight", table) is None
    assert rename("down_blocks.3.attentions.0.norm.weight", table) is None
    assert rename("down_blocks.0.resnets.2.conv1.weight", table) is None
    strange = {**SD14_UNET, "down_block_types": ["AttnDownBlock2D"] * 4}
    with pytest.raises(UserError, match="no place for AttnDownBlock2D"):
        unet_table(strange)


def test_only_the_autoencoders_attention_matrices_change_shape() -> None:
    assert is_attention_matrix("first_stage_model.encoder.mid.attn_1.q.weight")
    assert is_attention_matrix("first_stage_model.decoder.mid.attn_1.proj_out.weight")
    assert not is_attention_matrix("first_stage_model.decoder.mid.attn_1.q.bias")
    assert not is_attention_matrix("first_stage_model.decoder.mid.attn_1.norm.weight")
    assert not is_attention_matrix("first_stage_model.encoder.mid.block_1.conv1.weight")
