"""What holds for each attack: the model is left as it was, and the generator decides all."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from erase.diffusion.model import Diffusion
from erase.eval.attacks import latent, load_attack, prefix, ring_a_bell, words
from erase.runtime.errors import UserError
from tests.eval.attacks.targets import seeded, target

SMALL = {
    "prefix": prefix.Settings(tokens=2, timesteps=1, iterations=1),
    "ring-a-bell": ring_a_bell.Settings(population=4, generations=2, tokens=3),
    "words": words.Settings(best=2, most=20),
    "latent": latent.Settings(steps=2, iterations=2),
}


def attack(name: str, model: Diffusion, base: Diffusion, random: bool = False) -> Any:
    return load_attack(name).run(model, base, target(3, steps=1), SMALL[name], random, seeded())


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_a_model_is_left_as_it_was_and_a_seed_decides_all(
    name: str, random: bool, tiny_v: Diffusion, tiny: Diffusion
) -> None:
    model, base = tiny_v, tiny
    networks = [*model.networks.values(), *base.networks.values()]
    kept = [{k: v.clone() for k, v in network.state_dict().items()} for network in networks]
    before = torch.get_rng_state()
    found = attack(name, model, base, random)
    again = attack(name, model, base, random)
    assert torch.equal(torch.get_rng_state(), before)
    for network, was in zip(networks, kept, strict=True):
        assert all(torch.equal(v, was[k]) for k, v in network.state_dict().items())
        assert all(p.grad is None and not p.requires_grad for p in network.parameters())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert len(found.images) == 3 and found.images[0].shape == (16, 16, 3)
    for key in ("images", "fresh", "chosen"):
        np.testing.assert_array_equal(getattr(found, key), getattr(again, key))
    for key in ("forwards", "prompts", "tokens"):
        assert getattr(found, key) == getattr(again, key)
    if load_attack(name).TEXT:
        assert len(found.prompts) == len(found.tokens) == 3
        assert len(found.fresh) == (0 if random else 3)


@pytest.mark.parametrize("name", ["ring-a-bell", "words"])
def test_who_can_only_type_has_the_base_s_text_encoder(name: str, tiny: Diffusion) -> None:
    """What an erasure did to its own encoder does not change what they come up with."""
    pipeline = copy.copy(tiny.pipeline)
    pipeline.register_modules(text_encoder=copy.deepcopy(tiny.pipeline.text_encoder))
    edited = replace(tiny, pipeline=pipeline)
    with torch.no_grad():
        for parameter in edited.text.encoders[0][1].parameters():
            parameter.mul_(-1)
    assert attack(name, edited, tiny).prompts == attack(name, tiny, tiny).prompts
    assert attack(name, edited, edited).prompts != attack(name, tiny, tiny).prompts


@pytest.mark.parametrize("name", SMALL)
def test_with_two_text_encoders(name: str, tiny_xl: Diffusion) -> None:
    found = attack(name, tiny_xl, tiny_xl)
    assert len(found.images) == 3
    widths = [encoder.config.hidden_size for _, encoder in tiny_xl.text.encoders]
    assert [v.shape[-1] for v in found.embeddings] == (widths if "inversion" in name else [])


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer"])
@pytest.mark.parametrize("name", ["prefix", "ring-a-bell", "words"])
def test_without_a_text_encoder_there_is_nothing_to_attack(
    name: str, part: str, tiny: Diffusion
) -> None:
    pipeline = copy.copy(tiny.pipeline)
    setattr(pipeline, part, None)
    with pytest.raises(UserError, match="lacks a text encoder or its tokenizer"):
        attack(name, replace(tiny, pipeline=pipeline), tiny)
