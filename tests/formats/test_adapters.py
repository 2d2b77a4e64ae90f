"""The names of layers as ComfyUI's and A1111's loaders know them, and what can't be applied."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from erase.formats.adapters import METADATA, Layers, layer_names
from erase.formats.base import open_base
from erase.formats.foreign import included_state
from erase.formats.tensors import read_metadata, save_tensors
from erase.runtime.errors import UserError
from tests.published import SD2_UNET, SDXL_UNET
from tests.tiny import tiny_sd

LOADERS = Path(__file__).parent / "loaders"


def lines(name: str) -> list[list[str]]:
    """The words of a loader's table."""
    text = (LOADERS / name).read_text(encoding="utf-8")
    return [line.split() for line in text.splitlines() if not line.startswith("#")]


def shapes(config: dict[str, Any]) -> dict[str, torch.Size]:
    """The parameters of a published denoiser, without values."""
    from accelerate import init_empty_weights
    from diffusers import UNet2DConditionModel

    with init_empty_weights():
        network = UNet2DConditionModel.from_config(config)
    return {name: value.shape for name, value in network.named_parameters()}


def matrices(found: dict[str, torch.Size]) -> list[str]:
    return layer_names(name for name, shape in found.items() if len(shape) > 1)


def test_every_layer_of_1_and_2_is_known_to_the_loaders() -> None:
    told = lines("sd1.txt")
    both = {key: rest[0] for key, *rest in told if len(rest) == 1}
    found, layers = shapes(SD2_UNET), Layers("2", SD2_UNET)
    for layer in matrices(found):
        key = layers.kohya(layer).removeprefix("lora_unet_")
        assert f"lora_unet_{both[key]}" == layers.original(layer)
    # Of the layers that a LoRA leaves out, A1111 finds one by its original name alone.
    assert [key for key, *rest in told if "comfyui" in rest] == ["conv_norm_out"]
    assert_covers({rest[0] for _, *rest in told}, layers, found)


def assert_covers(modules: set[str], layers: Layers, found: dict[str, torch.Size]) -> None:
    """Every layer has its module. Loaders also list shortcuts of blocks that need none."""
    names = {layers.original(layer).removeprefix("lora_unet_") for layer in layer_names(found)}
    assert names <= modules
    assert all(name.endswith("skip_connection") for name in modules - names)


def test_every_layer_of_xl_is_known_to_the_loaders() -> None:
    modules = set()
    for (name,) in lines("sdxl.txt"):
        if match := re.search(r"\[0-(\d)\]", name):
            modules |= {name.replace(match[0], str(n)) for n in range(int(match[1]) + 1)}
        else:
            modules.add(name)
    found, layers = shapes(SDXL_UNET), Layers("XL", SDXL_UNET)
    assert_covers(modules, layers, found)
    assert all(layers.kohya(layer) == layers.original(layer) for layer in matrices(found))


def test_what_cannot_be_applied(tiny_folder: Path, tmp_path: Path) -> None:
    base = open_base(str(tiny_folder))
    key, file = "lora_unet_conv_in", tmp_path / "x.safetensors"
    up, down = torch.ones(32, 2, 1, 1), torch.ones(2, 4, 3, 3)
    good = {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down}
    wrong: list[tuple[dict[str, torch.Tensor], dict[str, str], str]] = [
        (good, {METADATA: json.dumps({"base": "0" * 64})}, "made from a different base model"),
        (
            {**good, f"{key}.lora_mid.weight": up + 1},
            {},
            "neither a plain LoRA nor a full difference",
        ),
        ({**good, f"{key}.alpha": torch.ones(2)}, {}, "neither a plain LoRA"),
        ({**good, f"{key}.lora_up.bias": torch.ones(32)}, {}, "neither a plain LoRA"),
        ({**good, f"{key}.diff": torch.ones(32, 4, 3, 3)}, {}, "neither a plain LoRA"),
        ({**good, f"{key}.lora_up.weight": up[:, :1].clone()}, {}, "neither a plain LoRA"),
        ({**good, f"{key}.lora_up.weight": up[:9].clone()}, {}, "has another shape"),
        ({**good, "lora_unet_conv_inn.diff": up + 1}, {}, "no layer 'lora_unet_conv_inn'.*Did you"),
        ({**good, "lora_te_text_model_x.alpha": up + 1}, {}, "also changes a text encoder"),
        ({f"{key}.diff": torch.full((32, 4, 3, 3), torch.inf)}, {}, "not finite"),
    ]
    for tensors, metadata, said in wrong:
        save_file(tensors, file, metadata)
        with pytest.raises(UserError, match=said):
            included_state(file, base)
    save_file(good, file)  # anybody's, of whose base nothing is said; without alpha, it is the rank
    before, after = base.denoiser_state(), included_state(file, base)
    assert [k for k in before if not torch.equal(before[k], after[k])] == ["conv_in.weight"]
    torch.testing.assert_close(after["conv_in.weight"], before["conv_in.weight"] + 2)


def test_strength(tiny_folder: Path, tmp_path: Path) -> None:
    """θ0 + s·(θ − θ0): 0 is the base bit by bit, negative zeros included."""
    base = open_base(str(tiny_folder))
    file, before = tmp_path / "x.safetensors", base.denoiser_state()
    save_file({"lora_unet_conv_in.diff": torch.ones(32, 4, 3, 3)}, file)
    none, half, all_ = (included_state(file, base, s)["conv_in.weight"] for s in (0, 0.5, 1))
    own = before["conv_in.weight"]
    assert torch.equal(none.view(torch.int32), own.view(torch.int32))
    torch.testing.assert_close(half, own + 0.5)
    assert torch.equal(all_, own + 1)


@pytest.mark.parametrize("s", [0, 0.5, 0.75, 1, -1])
def test_the_strength_of_a_base_in_half_precision(s: float, tmp_path: Path) -> None:
    base = open_base(str(tiny_sd(tmp_path / "b", dtype=torch.float16)))
    file = tmp_path / "x.safetensors"
    save_file({"lora_unet_conv_in.diff": torch.full((32, 4, 3, 3), 1e-5)}, file)
    got = included_state(file, base, s)
    own = {name: value.float() for name, value in base.denoiser_state().items()}
    moved = own["conv_in.weight"] + s * 1e-5
    torch.testing.assert_close(got["conv_in.weight"], moved, rtol=0, atol=1e-7)
    still = [name for name in own if s == 0 or name != "conv_in.weight"]
    assert all(torch.equal(got[n].view(torch.int32), own[n].view(torch.int32)) for n in still)
    with pytest.raises(UserError, match="At the strength 1e\\+39 weights"):
        included_state(file, base, 1e39)


def test_a_matrix_the_wrong_way_round_does_not_fit(tiny_folder: Path, tmp_path: Path) -> None:
    base, file = open_base(str(tiny_folder)), tmp_path / "x.safetensors"
    state = base.denoiser_state()
    wide = next(n.removesuffix(".weight") for n in state if n.endswith("ff.net.2.weight"))
    shape = state[f"{wide}.weight"].shape
    assert shape[0] != shape[1]
    key = f"lora_unet_{wide.replace('.', '_')}.diff"
    save_file({key: torch.ones(shape)}, file)
    assert included_state(file, base)
    save_file({key: torch.ones(shape[::-1])}, file)
    with pytest.raises(UserError, match="has another shape"):
        included_state(file, base)


def test_metadata_are_in_order(tmp_path: Path) -> None:
    """The same tensors and metadata give the same bytes; the library's own order is random."""
    told = {name: f"é{name}" for name in "bdacfe"}
    tensors = {"x": torch.arange(4.0), "y": torch.ones(2)}
    files = [tmp_path / f"{n}.safetensors" for n in range(4)]
    for file in files:
        save_tensors(file, tensors, told)
    assert len({file.read_bytes() for file in files}) == 1
    assert read_metadata(files[0]) == told
    assert torch.equal(load_file(files[0])["x"], tensors["x"])
