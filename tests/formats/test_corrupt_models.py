"""Model files with small corruptions: their readers say so in a sentence, or do not care."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from erase.eval.instruments.weights import read_card, read_labels, read_weights
from erase.formats.base import Base
from erase.formats.delta import apply_delta, is_delta, save_delta
from erase.formats.folder import components, read_state, skeleton, weight_files
from erase.formats.foreign import included_state
from erase.formats.original.config import infer
from erase.formats.pipeline import _open_scheduler
from erase.formats.single_file import METADATA, export_single_file, unpack
from erase.formats.tensors import read_metadata, read_tensors
from erase.formats.tokenizers import open_tokenizer
from erase.recipes.recipe import RECIPES, load_recipe
from erase.runs.folder import OUTPUTS, Plan, RunFolder
from erase.runtime.errors import UserError
from erase.unlearn.mask import Mask

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.5, 2.5]).half()}
VALUES: list[Any] = [None, True, -1, 0, 3, 0.5, "x", "", [], [1], {}, {"x": 1}, ["a", "b"]]


def cut_or_flipped(content: bytes, chance: random.Random) -> bytes:
    """Bytes lost, changed, doubled or put in at a random place; the start is the likeliest."""
    at = chance.randrange(min(len(content), chance.choice((16, 256, 1 << 30))) or 1)
    return chance.choice(
        [
            content[:at],
            content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :],
            content[:at] + chance.randbytes(3) + content[at:],
            content[:at] + content[at + chance.randrange(1, 9) :],
        ]
    )


def swapped(value: Any, chance: random.Random) -> Any:
    """A JSON value in which one entry is of another type, lost or under another name."""
    if not isinstance(value, (dict, list)) or not value or chance.random() < 0.1:
        return chance.choice(VALUES)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        return [*value[:at], swapped(value[at], chance), *value[at + 1 :]]
    key = chance.choice(list(value))
    rest = {k: v for k, v in value.items() if k != key}
    match chance.randrange(5):
        case 0:
            return rest
        case 1:
            return {**rest, f"{key}x": value[key]}
        case _:
            return {**rest, key: swapped(value[key], chance)}


def reshaped(state: dict[str, Tensor], chance: random.Random) -> dict[str, Tensor]:
    """Tensors of which one is lost, renamed, or of another shape or type."""
    name = chance.choice(list(state))
    rest = {k: v for k, v in state.items() if k != name}
    value = state[name]
    return {
        **rest,
        **chance.choice(
            [
                {},
                {f"{name}x": value},
                {name: value.to(torch.int64)},
                {name: value[None].clone()},
                {name: value.flatten()[:1].clone()},
                {name: torch.zeros(0)},
                {name: torch.tensor(1.0)},
            ]
        ),
    }


def says(read: Callable[[], object]) -> None:
    """Reads: well, or with a sentence."""
    try:
        read()
    except UserError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 700, text


@pytest.fixture(scope="module")
def place(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good files of every kind."""
    place = tmp_path_factory.mktemp("good")
    shutil.copytree(tiny_folder, place / "sd")
    part = {k: v for i, (k, v) in enumerate(read_state(tiny_folder, "unet").items()) if i < 3}
    (place / "shards").mkdir()
    save_file(part, place / "shards/part.safetensors")
    adapter = {"out_0.w_norm": torch.ones(32), "out_0.b_norm": torch.ones(32)}
    adapter |= {"conv_in.lora_up.weight": torch.ones(32, 2, 1, 1), "conv_in.alpha": torch.ones(())}
    adapter |= {"conv_in.lora_down.weight": torch.ones(2, 4, 3, 3)}
    save_file({f"lora_unet_{k}": v for k, v in adapter.items()}, place / "adapter.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(part, "part.safetensors")}
    (place / "shards/model.safetensors.index.json").write_text(json.dumps(index))
    card = {"arch": "x", "labels": ["a", "b"], "size": 8, "mean": [0.5] * 3, "std": [0.5] * 3}
    save_file(STATE, place / "x.safetensors", {"judge": json.dumps(card)})
    (place / "x.safetensors.labels.txt").write_text("a\nb\n")
    torch.save({"state_dict": STATE, "step": 3}, place / "x.ckpt")
    torch.save({"state_dict": STATE, "seen": random.Random}, place / "x.bin")
    torch.save(STATE, place / "old.pt", _use_new_zipfile_serialization=False)
    save_delta(place / "delta.safetensors", STATE, {k: v + 1 for k, v in STATE.items()})
    bits = {k: torch.ones(1, dtype=torch.uint8) for k in STATE}
    shapes = {k: tuple(v.shape) for k, v in STATE.items()}
    Mask(bits, shapes, {"mask": "x"}).save(place / "mask.safetensors")
    (place / "recipe.toml").write_bytes((RECIPES / "salun-mini.toml").read_bytes())
    record = {"digest": "x", "inputs": {"a": 1}, "finished": True, "seconds": 1.0}
    facts = {"concept": "a", "stages": {"mask": record}, "recipe": {}, "given": {}}
    (place / "run.json").write_text(json.dumps(facts))
    export_single_file(tiny_folder, place / "single.safetensors")
    return place


def weights(file: Path) -> None:
    tensors, metadata = read_weights(file)
    read_card(metadata, file, "x")
    assert all(isinstance(v, Tensor) for v in tensors.values())


def delta(file: Path) -> None:
    is_delta(file)
    apply_delta(file, STATE)


def labels(file: Path) -> object:
    return read_labels(file.with_name(file.name.removesuffix(".labels.txt")))


def config(file: Path) -> object:
    return skeleton(file.parent.parent, file.parent.name)


def run(file: Path) -> None:
    folder = RunFolder.open(file.parent)
    folder.finished("mask")
    folder.reconcile(Plan({stage: {"a": 2} for stage in OUTPUTS}), ["mask"], overwrite=False)


READERS: dict[str, Callable[[Path], object]] = {
    "sd/model_index.json": lambda file: components(file.parent),
    "sd/unet/config.json": config,
    "sd/vae/config.json": config,
    "sd/text_encoder/config.json": config,
    "sd/scheduler/scheduler_config.json": lambda file: _open_scheduler(file.parent.parent),
    "sd/tokenizer/tokenizer_config.json": lambda file: open_tokenizer(
        file.parent.parent, "tokenizer"
    ),
    "sd/tokenizer/vocab.json": lambda file: open_tokenizer(file.parent.parent, "tokenizer"),
    "sd/tokenizer/merges.txt": lambda file: open_tokenizer(file.parent.parent, "tokenizer"),
    "shards/model.safetensors.index.json": lambda file: [
        read_tensors(f) for f in weight_files(file.parent).values() if f.suffix != ".json"
    ],
    "x.safetensors": weights,
    "x.safetensors.labels.txt": labels,
    "x.ckpt": read_tensors,
    "x.bin": read_tensors,
    "old.pt": read_tensors,
    "delta.safetensors": delta,
    "mask.safetensors": Mask.load,
    "recipe.toml": lambda file: load_recipe(str(file)),
    "run.json": run,
}


def torment(place: Path, name: str, chance: random.Random) -> None:
    """Reads a file with a corruption, and puts the good one back."""
    file = place / name
    content = file.read_bytes()
    try:
        if file.suffix == ".json" and len(content) < 1 << 16 and chance.random() < 0.7:
            file.write_text(json.dumps(swapped(json.loads(content), chance)))
        else:
            file.write_bytes(cut_or_flipped(content, chance))
        says(lambda: READERS[name](file))
    finally:
        file.write_bytes(content)


def torment_tensors(place: Path, chance: random.Random) -> None:
    """The same for what the files' tensors are: names, shapes and types."""
    file = place / "broken.safetensors"
    match chance.randrange(5):
        case 0:
            facts = read_metadata(place / "delta.safetensors")
            save_file(reshaped(load_file(place / "delta.safetensors"), chance), file, facts)
            says(lambda: apply_delta(file, STATE))
        case 1:
            facts = read_metadata(place / "mask.safetensors")
            key = chance.choice(["shapes", "provenance"])
            facts[key] = json.dumps(swapped(json.loads(facts[key]), chance))
            save_file(reshaped(load_file(place / "mask.safetensors"), chance), file, facts)
            says(lambda: Mask.load(file))
        case 2:
            card = swapped(json.loads(read_metadata(place / "x.safetensors")["judge"]), chance)
            save_file(STATE, file, {"judge": json.dumps(card)})
            says(lambda: weights(file))
        case 3:
            pickled = place / "broken.pt"
            torch.save(swapped({"state_dict": dict(STATE), "step": [3]}, chance), pickled)
            says(lambda: read_tensors(pickled))
        case _:
            base = Base(str(place / "sd"), place / "sd")
            name = chance.choice(["shards/part.safetensors", "adapter.safetensors"])
            save_file(reshaped(load_file(place / name), chance), file)
            says(lambda: included_state(file, base))


def torment_single_file(place: Path, chance: random.Random) -> None:
    """A whole model in one file, its tensors and what it states of itself."""
    state = load_file(place / "single.safetensors")
    says(lambda: infer(reshaped(state, chance), "x", "epsilon"))
    texts = json.loads(read_metadata(place / "single.safetensors")[METADATA])
    inside = chance.choice([k for k in texts if k.endswith(".json")])
    said = {**texts, inside: json.dumps(swapped(json.loads(texts[inside]), chance))}
    stated = chance.choice([said, said, swapped(texts, chance)])
    broken = place / "broken.safetensors"
    some = {k: v for k, v in state.items() if "token_embedding" not in k}
    save_file(some, broken, {METADATA: json.dumps(stated)})
    with TemporaryDirectory() as folder:
        says(lambda: unpack(broken, Path(folder)))


FAST = [name for name in READERS if "sd/" not in name]
TRIALS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
SEEDS = st.integers(0, 2**32)


@pytest.mark.parametrize("name", READERS)
def test_corrupt_files(name: str, place: Path) -> None:
    @settings(TRIALS, max_examples=30 if name in FAST else 4)
    @given(SEEDS)
    def trials(seed: int) -> None:
        torment(place, name, random.Random(seed))

    trials()


def test_corrupt_tensors(place: Path) -> None:
    @settings(TRIALS, max_examples=30)
    @given(SEEDS)
    def trials(seed: int) -> None:
        torment_tensors(place, random.Random(seed))

    trials()


@pytest.mark.filterwarnings("ignore:.*unusual size")
def test_corrupt_single_files(place: Path) -> None:
    @settings(TRIALS, max_examples=2)
    @given(SEEDS)
    def trials(seed: int) -> None:
        torment_single_file(place, random.Random(seed))

    trials()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*unusual size")
def test_many_corruptions(place: Path) -> None:
    for seed in range(1500):
        for name in READERS if seed % 10 == 0 else FAST:
            torment(place, name, random.Random(seed))
        torment_tensors(place, random.Random(seed))
        if seed % 10 == 0:
            torment_single_file(place, random.Random(seed))
