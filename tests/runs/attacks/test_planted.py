"""A concept that is hidden on purpose is found: the bundled model, its word remapped in the text
encoder alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from erase.diffusion.model import Diffusion
from erase.images.request import Sampler
from erase.runs.attacks.execute import attack
from erase.runs.attacks.inquiry import make_inquiry


def hide(folder: Path, word: str, anchor: str) -> Path:
    """The bundled model, in which a word's embedding is another one's; nothing else differs."""
    pipeline = Diffusion.load("mini").pipeline
    table = pipeline.text_encoder.get_input_embeddings().weight
    hidden, shown = (
        pipeline.tokenizer(w, add_special_tokens=False).input_ids for w in (word, anchor)
    )
    assert len(hidden) == len(shown) == 1
    with torch.no_grad():
        table[hidden[0]] = table[shown[0]]
    pipeline.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_concept_hidden_in_the_text_encoder_is_not_called_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERASE_CACHE", str(tmp_path / "cache"))
    model = hide(tmp_path / "hidden", "church", "truck")
    found = attack(
        make_inquiry(
            str(model),
            "mini",
            "church",
            Sampler("dpm++", 15, 3.0),
            attacks=("paraphrase", "words", "handover", "stock-encoder"),
            out=tmp_path / "out",
            batch=20,
            device="cpu",
        )
    )
    told = found["attacks"]
    assert told["stock-encoder"]["pre"]["value"] <= 0.05, "the plain prompts should not show it"
    assert told["stock-encoder"]["erased"]["value"] >= 0.9
    assert told["stock-encoder"]["random"]["value"] <= 0.05
    assert found["verdict"] in ("hidden", "returns")
