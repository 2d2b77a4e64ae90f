"""Scopes against hand-counted parameters, fingerprints against a hash written out by hand."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from erase.diffusion.fingerprint import model_fingerprint
from erase.diffusion.model import Diffusion
from erase.diffusion.scopes import SCOPES, in_scope, read_mask, scoped
from erase.runtime.errors import UserError
from erase.runtime.fingerprint import fingerprint, fingerprint_state
from erase.unlearn.mask import Mask
from tests.tiny import UNET, XL_UNET


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


def test_scopes_of_a_real_unet(unet: UNet2DConditionModel) -> None:
    names = [n for n, _ in unet.named_parameters()]
    found = {scope: list(scoped(unet, scope)) for scope in SCOPES}
    # One transformer in the down block, one in the middle, two in the up block; each has one
    # cross-attention of to_q, to_k, to_v, to_out.0 with a bias on the last.
    assert len(found["xattn"]) == 4 * 5
    assert len(found["xattn-kv"]) == 4 * 2
    assert all(n.endswith(("attn2.to_k.weight", "attn2.to_v.weight")) for n in found["xattn-kv"])
    assert set(found["xattn-kv"]) < set(found["xattn"])
    assert found["full"] == names
    assert sorted(found["xattn"] + found["noxattn"]) == sorted(names)
    for keys in found.values():
        assert keys == [n for n in names if n in keys]  # the model's own order


@pytest.mark.parametrize("odd", [{}, {**XL_UNET}])
def test_scopes_without_norms_are_the_linear_and_convolutional_layers(odd: dict[str, Any]) -> None:
    """As ESD's rewrite chooses its weights: by the class of their layer."""
    model = UNet2DConditionModel(**{**UNET, **odd})
    plain = {
        f"{name}.{own}"
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
        for own, _ in layer.named_parameters()
    }
    assert set(scoped(model, "full-no-norms")) == plain
    assert set(scoped(model, "noxattn-no-norms")) == {n for n in plain if ".attn2." not in n}
    # x and x-strict have no norms to leave out.
    assert set(scoped(model, "xattn")) <= plain


def test_scope_is_read_from_whole_name_parts() -> None:
    assert in_scope("xattn-kv", "down.0.attn2.to_v.weight")
    assert not in_scope("xattn-kv", "down.0.attn2.to_out.0.weight")
    assert not in_scope("xattn", "down.0.attn20.to_v.weight")
    assert not in_scope("xattn", "down.0.attn1.to_v.weight")


def test_bad_scopes_are_refused(unet: UNet2DConditionModel) -> None:
    with pytest.raises(UserError, match="Did you mean 'xattn'"):
        scoped(unet, "xatn")
    with pytest.raises(UserError, match="no weights in the scope"):
        scoped(nn.Linear(2, 2), "xattn")


def test_fingerprint_is_the_documented_hash() -> None:
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -2.0]]))
        module.bias.fill_(0.5)
    by_hand = hashlib.sha256(
        b'["bias", [1]]'
        + np.array([0.5], "<f4").tobytes()
        + b'["weight", [1, 2]]'
        + np.array([1, -2], "<f4").tobytes()
    ).hexdigest()
    assert fingerprint(module) == by_hand
    assert fingerprint_state(dict(reversed(list(module.named_parameters())))) == by_hand


def test_a_model_is_the_same_whatever_version_opens_it(
    tiny: Diffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As transformers before 5 tells configurations; before 5.6 it names weights with a prefix, and
    from then on without."""
    before = model_fingerprint(tiny)
    encoder = tiny.networks["text_encoder"]
    encoder.config.update({"is_decoder": False, "num_beams": 1, "tie_word_embeddings": True})
    bare = {n.removeprefix("text_model."): p for n, p in encoder.named_parameters()}
    for prefix in ("", "text_model."):
        named = [(f"{prefix}{name}", p) for name, p in bare.items()]
        monkeypatch.setattr(type(encoder), "named_parameters", lambda self, named=named: named)
        assert model_fingerprint(tiny) == before
    encoder.config.update({"hidden_act": "gelu"})
    assert model_fingerprint(tiny) != before


def test_fingerprint_sees_values_names_and_shapes_but_not_precision_or_layout() -> None:
    torch.manual_seed(0)
    state = {"w": torch.randn(4, 6).half().float(), "s": torch.tensor(2.0)}
    base = fingerprint_state(state)
    assert fingerprint_state({n: t.half() for n, t in state.items()}) == base
    assert fingerprint_state({**state, "w": state["w"].t().contiguous().t()}) == base
    assert fingerprint_state({**state, "w": state["w"].reshape(6, 4)}) != base
    assert fingerprint_state({"v": state["w"], "s": state["s"]}) != base
    changed = state["w"].clone()
    changed.view(torch.int32)[3, 5] ^= 1
    assert fingerprint_state({**state, "w": changed}) != base


def test_fingerprint_reads_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"w": torch.arange(1000.0)}
    whole = fingerprint_state(state)
    monkeypatch.setattr("erase.runtime.fingerprint._CHUNK", 7)
    assert fingerprint_state(state) == whole


def test_a_mask_that_names_its_scope_alone_is_read(
    unet: UNet2DConditionModel, tmp_path: Path
) -> None:
    made = Mask.full(scoped(unet, "xattn-kv"), unet, {"scope": "xattn-kv"})
    assert made.names is not None
    replace(made, names=None).save(tmp_path / "before.safetensors")
    made.save(tmp_path / "now.safetensors")
    assert Mask.load(tmp_path / "before.safetensors").names is None
    for file in ("before", "now"):
        read = read_mask(tmp_path / f"{file}.safetensors")
        assert read.names == made.names and read.size == made.count < sum(
            p.numel() for p in unet.parameters()
        )
