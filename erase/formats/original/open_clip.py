"""OpenCLIP's text tower: its own layout, used by Stable Diffusion 2 and XL files, and CLIP's.

OpenCLIP stacks query, key and value and stores the projection transposed; otherwise tensors are
carried over one to one, bits kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_ENDS = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_UNUSED = ("logit_scale", "attn_mask")
_QKV = ("q_proj", "k_proj", "v_proj")


def from_open_clip(
    state: Mapping[str, Tensor], layers: int, spare: int, projects: bool
) -> tuple[dict[str, Tensor], set[str]]:
    """The tensors under CLIP's names.

    Args:
        state: OpenCLIP's tensors, without a prefix.
        layers: how many blocks are wanted.
        spare: how many more there may be; Stable Diffusion 2 leaves the last one out, since it
            reads the hidden states before it.
        projects: whether the projection is wanted.

    Returns:
        The tensors, and the names in ``state`` that are accounted for, those of parts that are not
        wanted included.
    """
    out: dict[str, Tensor] = {}
    known = {n for n in state if n in _UNUSED}
    for name, value in state.items():
        if name in _ENDS:
            out[_ENDS[name]] = value
        elif name == "text_projection":
            if projects:
                out["text_projection.weight"] = value.T.contiguous()
        elif found := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", name):
            number, rest = int(found[1]), found[2]
            if number >= layers + spare:
                continue
            place = f"text_model.encoder.layers.{number}"
            module, _, kind = rest.rpartition(".")
            if stacked := re.fullmatch(r"attn\.in_proj_(weight|bias)", rest):
                if number < layers:
                    for one, part in zip(_QKV, value.chunk(3), strict=True):
                        out[f"{place}.self_attn.{one}.{stacked[1]}"] = part.contiguous()
            elif module in _BLOCK:
                if number < layers:
                    out[f"{place}.{_BLOCK[module]}.{kind}"] = value
            else:
                continue
        else:
            continue
        known.add(name)
    return out, known


def to_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, given by CLIP's names, under OpenCLIP's.

    What CLIP's layout does not hold (the logit scale, a last block that is not used) is left out.
    """
    ends = {ours: theirs for theirs, ours in _ENDS.items()}
    blocks = {ours: theirs for theirs, ours in _BLOCK.items()}
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        if name in ends:
            out[ends[name]] = value
        elif name == "text_projection.weight":
            out["text_projection"] = value.T.contiguous()
        elif found := re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.(.+)\.(\w+)", name):
            place = f"transformer.resblocks.{found[1]}"
            module, kind = found[2], found[3]
            if module in blocks:
                out[f"{place}.{blocks[module]}.{kind}"] = value
            elif module == "self_attn.q_proj":
                parts = [state[name.replace("q_proj", one)] for one in _QKV]
                out[f"{place}.attn.in_proj_{kind}"] = torch.cat(parts)
    return out
