"""AdvUnlearn's attack and loss against plain computations, and what becomes of the text encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import erase
from erase.diffusion.model import Diffusion
from erase.diffusion.tokens import encode, read
from erase.eval.attacks import stock_encoder
from erase.formats.base import open_base
from erase.formats.export import export
from erase.formats.folder import read_parts
from erase.formats.layouts import PARTS
from erase.methods.adv_unlearn import Config, attack, check_texts, denoised, slopes
from erase.methods.adv_unlearn import erase as unlearn
from erase.runtime.errors import UserError
from erase.runtime.seeding import cycle, generator
from tests.eval.attacks.church import images_of, target
from tests.methods.data import PAIRS, RETAINED, copied, make_data, make_fit, moved, weights
from tests.tiny import tiny_sd, tiny_sdxl

SMALL = {"x_t_steps": 2, "attack_steps": 2, "retain_batch": 1}
BASES = {"sd": tiny_sd, "sdxl": tiny_sdxl}


@pytest.fixture(params=BASES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Diffusion:
    make: Callable[[Path], Path] = BASES[request.param]
    return Diffusion.load(str(make(tmp_path_factory.mktemp("bases") / request.param)))


def fit_of(d: Diffusion, folder: Path, **settings: float) -> Any:
    return make_fit(d, "text-layers", folder, "text_encoder", **settings)


def test_the_attacks_gradient_is_that_of_a_row_of_the_embedding_table(base: Diffusion) -> None:
    """v written into the table at ids that no prompt has, where plain autograd finds it."""
    spare = [[40_000, 40_001], [40_002, 40_003]]
    prompts = [
        [*own, *p] for own, p in zip(spare, read(base.text, [c for c, _ in PAIRS]), strict=True)
    ]
    g = torch.Generator().manual_seed(0)
    x_t, wanted = torch.randn(2, 2, 4, 8, 8, generator=g)
    t = torch.tensor([700, 20])
    encoders = [encoder for _, encoder in base.text.encoders]
    tables = [encoder.get_input_embeddings().weight for encoder in encoders]
    v = [0.1 * torch.randn(2, 2, table.shape[1], generator=g) for table in tables]
    found = slopes(base, prompts, v, x_t, t, wanted)
    assert all(p.grad is None for e in encoders for p in e.parameters())
    for table, own in zip(tables, v, strict=True):
        table.data[torch.tensor(spare)] = own
        table.requires_grad_(True)
    out = base.predict(x_t, t, encode(base.text, prompts))
    sum((out[i] - wanted[i]).square().mean() for i in range(2)).backward()  # type: ignore[union-attr]
    for table, slope in zip(tables, found, strict=True):
        assert table.grad is not None and float(slope.abs().max()) > 0
        torch.testing.assert_close(slope, table.grad[torch.tensor(spare)], rtol=1e-3, atol=1e-8)


def test_an_attack_is_adam_with_the_gradient_of_each_step_alone(tiny: Diffusion) -> None:
    """m, s and their corrections (arXiv 1412.6980, algorithm 1) by hand."""
    prompts, g = [[40_000, *read(tiny.text, ["a church"])[0]]], torch.Generator().manual_seed(0)
    c, start = tiny.embed(["a church"]), 0.1 * torch.randn(1, 1, 32, generator=g)
    drawn = [(torch.randn(1, 4, 8, 8, generator=g), torch.tensor([t])) for t in (900, 500, 100)]
    found = attack(tiny, prompts, [start], c, drawn.__getitem__, steps=3, lr=0.01)
    v, m, s = start.clone(), torch.zeros(1, 1, 32), torch.zeros(1, 1, 32)
    for k, (x_t, t) in enumerate(drawn, 1):
        with torch.no_grad():
            wanted = tiny.predict(x_t, t, c)
        [slope] = slopes(tiny, prompts, [v], x_t, t, wanted)
        m, s = 0.9 * m + 0.1 * slope, 0.999 * s + 0.001 * slope**2
        v = v - 0.01 * (m / (1 - 0.9**k)) / ((s / (1 - 0.999**k)).sqrt() + 1e-8)
    torch.testing.assert_close(found[0], v, rtol=1e-4, atol=1e-6)


def test_an_attack_brings_the_prediction_nearer_to_the_bases(tiny: Diffusion) -> None:
    c, g = tiny.embed(["a church"]), torch.Generator().manual_seed(0)
    prompts = [[40_000, *read(tiny.text, ["a truck"])[0]]]
    x_t, t = torch.randn(1, 4, 8, 8, generator=g), torch.tensor([500])
    start = [0.1 * torch.randn(1, 1, 32, generator=g)]
    ended = attack(tiny, prompts, start, c, lambda _: (x_t, t), steps=30, lr=0.03)
    with torch.no_grad():
        wanted = tiny.predict(x_t, t, c)
        before, after = (
            float((tiny.predict(x_t, t, encode(tiny.text, prompts, v)) - wanted).square().mean())
            for v in (start, ended)
        )
    assert after < 0.8 * before


def test_the_first_loss_by_hand(tiny: Diffusion, tmp_path: Path) -> None:
    """Without an attack and with c_θ still the base's, so that what is retained costs nothing."""
    config = Config(**SMALL, eta=1.5, attack_from=1.0)  # type: ignore[arg-type]
    start = copied(tiny)
    unlearn(tiny, make_data(tiny, batch_size=1), config, fit_of(tiny, tmp_path, steps=2, lr=0.02))
    first, second = map(json.loads, (tmp_path / "train.jsonl").read_text().splitlines())

    def levels(index: int) -> tuple[Tensor, Tensor, list[str]]:
        g = generator(0, "adv-unlearn", index)
        noise = torch.randn(2, 4, 8, 8, generator=g)
        kept = RETAINED[int(cycle(2, 1, index, 0, "adv-unlearn"))]
        c, empty = start.embed([PAIRS[index][0], kept]), start.embed([""])
        x, t = denoised(start, c, empty, noise, g, steps=2, guidance=3.0)
        return x, t, [PAIRS[index][0], kept]

    @torch.no_grad()
    def predicted(d: Diffusion, x: Tensor, t: Tensor, prompt: str) -> Tensor:
        found: Tensor = d.denoiser(x[None], t[None], d.embed([prompt]).hidden).sample
        return found

    x, t, prompts = levels(0)
    e_c, e_0 = (predicted(start, x[0], t[0], p) for p in (prompts[0], ""))
    # e_c itself, since nothing has moved: the distance is (1 + η)·‖e_c - e_0‖².
    assert first["forget"] == pytest.approx(float((2.5 * (e_c - e_0)).square().mean()), rel=1e-4)
    assert first["retain"] == pytest.approx(0.0, abs=1e-9)
    stepped = copied(start)
    again = fit_of(stepped, tmp_path / "one", steps=1, lr=0.02)
    unlearn(stepped, make_data(start, batch_size=1), config, again)
    x, t, prompts = levels(1)
    kept = predicted(stepped, x[1], t[1], prompts[1]) - predicted(start, x[1], t[1], prompts[1])
    assert second["retain"] == pytest.approx(0.3 * float(kept.square().mean()), rel=1e-3)
    assert second["retain"] > 0


def test_the_text_encoder_alone_moves_and_the_stock_one_undoes_it(
    base: Diffusion, tmp_path: Path
) -> None:
    edited, before = copied(base), {part: weights(base, part) for part in PARTS}
    config = Config(**SMALL)  # type: ignore[arg-type]
    unlearn(edited, make_data(edited), config, fit_of(edited, tmp_path, lr=0.05))
    assert moved(before["denoiser"], edited) == set()
    changed = moved(before["text_encoder"], edited, "text_encoder")
    assert changed and not any("embeddings" in n or "projection" in n for n in changed)
    prompts, seeds = ["a drawing of a church"] * 2, [0, 1]
    theirs, mine = (np.stack(images_of(d, prompts, seeds, target())) for d in (base, edited))
    assert not np.array_equal(theirs, mine)
    found = stock_encoder.run(edited, base, target(), stock_encoder.Settings(), False, generator(0))
    assert np.array_equal(np.stack(found.images), theirs)


def test_a_training_that_was_cut_off_ends_with_the_same_bits(
    tiny: Diffusion, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    config, models = Config(**SMALL), [copied(tiny) for _ in range(3)]  # type: ignore[arg-type]

    def stops(index: int, _: object) -> None:
        if index == 3:
            raise Stop

    def train(d: Diffusion, folder: Path, watch: object = None) -> None:
        from dataclasses import replace

        made = fit_of(d, folder, steps=4, checkpoint_every=2)
        unlearn(d, make_data(tiny), config, replace(made, watch=watch))

    train(models[0], tmp_path / "whole")
    with pytest.raises(Stop):
        train(models[1], tmp_path / "cut", stops)
    train(models[2], tmp_path / "cut")
    assert moved(weights(models[0], "text_encoder"), models[2], "text_encoder") == set()
    assert moved(weights(tiny, "text_encoder"), models[2], "text_encoder")


@pytest.fixture(scope="module", params=BASES)
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A base's folder and a run folder."""
    place = tmp_path_factory.mktemp("runs")
    model = BASES[request.param](place / "base")
    values: dict[str, Any] = {
        **SMALL,
        "steps": 2,
        "lr": 1e-3,
        "sampling_steps": 2,
        "eval_retain": 1,
    }
    stages = ("images", "mask", "train")
    erase.run(str(model), "a church", recipe="adv-unlearn", out=str(place / "run"), stages=stages,
              preview=2, **values)  # fmt: skip
    return model, place / "run"


def test_a_run_writes_the_text_encoders(run: tuple[Path, Path]) -> None:
    from diffusers import DiffusionPipeline

    base, folder = run
    before, after = (read_parts(place, "text_encoder") for place in (base, folder / "model"))
    apart = [n for n, v in before.items() if not torch.equal(v, after[n])]
    assert apart and before.keys() == after.keys()
    unets = [read_parts(place, "denoiser") for place in (base, folder / "model")]
    assert all(torch.equal(v, unets[1][n]) for n, v in unets[0].items())
    stock = DiffusionPipeline.from_pretrained(folder / "model")
    ours, theirs = (Diffusion.load(str(place)) for place in (folder / "model", base))
    own = stock.encode_prompt(
        "a church", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )[0]
    torch.testing.assert_close(own, ours.embed(["a church"]).hidden)
    assert not torch.allclose(own, theirs.embed(["a church"]).hidden)
    assert "Only weights of the text encoder were changed" in (
        folder / "model/README.md"
    ).read_text("utf-8")
    pictures = [(folder / f"previews/step-00000{i}/0.png").read_bytes() for i in (1, 2)]
    assert pictures[0] != pictures[1]  # they are drawn with the encoder as it then is


def test_every_export_carries_them(run: tuple[Path, Path], tmp_path: Path) -> None:
    base, folder = run
    model = str(folder / "model")
    wanted = open_base(model).state(*PARTS)
    delta, file, half = (tmp_path / f"{n}.safetensors" for n in ("delta", "file", "half"))
    export(model, str(delta), kind="delta", base=str(base))
    export(model, str(file))
    said = export(model, str(half), dtype="fp16", base=str(base))
    assert " of 0 moved" not in said and "moved weights" in said
    export(str(delta), str(tmp_path / "applied"), base=str(base))
    export(str(file), str(tmp_path / "unpacked"))
    for name in ("applied", "unpacked"):
        found = open_base(str(tmp_path / name)).state(*PARTS)
        assert all(torch.equal(found[n].float(), v.float()) for n, v in wanted.items())
    with pytest.raises(UserError, match="a different base model"):
        export(str(delta), str(tmp_path / "x"), base=model)
    edited, ours = Diffusion.load(str(base), edit=delta), Diffusion.load(model)
    assert torch.equal(edited.embed(["a church"]).hidden, ours.embed(["a church"]).hidden)
    with pytest.raises(UserError, match="A LoRA holds only the denoiser, but the text_encoder"):
        export(model, str(tmp_path / "lora.safetensors"), kind="lora", base=str(base))


def test_a_comparison_includes_no_other_text_encoder(
    run: tuple[Path, Path], tmp_path: Path
) -> None:
    from erase.formats.foreign import included_state

    base, folder = run
    delta = tmp_path / "delta.safetensors"
    export(str(folder / "model"), str(delta), kind="delta", base=str(base))
    for place in (folder / "model", delta):
        with pytest.raises(UserError, match="The text_encoder of .* only swaps the denoiser"):
            included_state(place, open_base(str(base)))


def test_a_cell_keeps_and_restores_it(tiny_folder: Path, tmp_path: Path) -> None:
    from erase.formats.delta import apply_delta
    from erase.study.cell import DELTA, _restore
    from erase.study.compare import make_matrix, run_matrix

    values = {**SMALL, "steps": 2, "sampling_steps": 2, "lr": 1e-3, "batch_size": 1}
    values |= {f"eval_{n}": 1 for n in ("forget", "retain")}
    values |= {f"eval_{n}": 0 for n in ("neighbours", "general", "empty")}
    matrix = make_matrix(
        str(tiny_folder), ["adv-unlearn"], ["imagenette/church"], [0], tmp_path / "m", values
    )
    assert run_matrix(matrix) == []
    [cell] = matrix.cells
    facts = cell.finished()
    base = open_base(str(tiny_folder)).state("text_encoder")
    assert facts is not None and 0 < facts["moved"] < facts["weights"]
    assert facts["weights"] == sum(v.numel() for v in base.values())
    _restore(cell)
    found = read_parts(cell.folder / "model", "text_encoder")
    kept = apply_delta(cell.folder / DELTA, base)
    assert all(torch.equal(v, found[n]) for n, v in kept.items())


def test_a_prompt_that_does_not_fit_behind_the_attack_is_one_sentence(tiny: Diffusion) -> None:
    """Of 77 tokens, start and end and "a photo of a church" take seven."""
    texts = {"concept": ["a photo of a church"], "retained": []}
    length = len(tiny.text.tokenizer(texts["concept"][0]).input_ids)
    check_texts(Config(attack_tokens=77 - length), tiny, texts, ["church"])
    with pytest.raises(UserError, match="78 tokens .* takes 77: lower --attack-tokens"):
        check_texts(Config(attack_tokens=78 - length), tiny, texts, ["church"])
