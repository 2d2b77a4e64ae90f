"""Formats are found by their files, and told by what lies on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from erase.formats import format_of, formats, targets, whole_files
from erase.formats.base import open_base
from erase.formats.delta import save_delta
from erase.formats.export import export
from erase.runtime.errors import UserError
from tests.dropped_in import copy_with, run
from tests.tiny import tiny_single_file

NEW = '''"""The denoiser's weights as arrays of NumPy."""

from dataclasses import dataclass, field

import numpy as np
import torch

NAME, ENDS, WHOLE = "NumPy archive", (".npz",), False
WRITES, KIND, HELP = ".npz", "arrays", "the denoiser alone, as arrays"


@dataclass(frozen=True)
class Options:
    count: int = field(default=9999, metadata={"help": "arrays at most"})


def reads(path):
    return path.suffix in ENDS and path.is_file()


def read(path, base):
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def write(model, target, how):
    state = model.denoiser_state()
    some = list(state.items())[: how.options.count]
    np.savez(target, **{name: value.float().numpy() for name, value in some})
    return f"{target}: {len(some)} arrays"
'''


def test_what_lies_on_disk_tells_its_format(tiny_folder: Path, tmp_path: Path) -> None:
    assert [form.NAME for form in formats()] == [
        *("delta", "diffusers folder", "LoRA", "LyCORIS file", "single file"),
        "state dict of a denoiser",
    ]
    assert [(form.KIND, form.WRITES) for form in targets()] == [
        ("delta", ".safetensors"),
        ("diffusers", ""),
        *((kind, ".safetensors") for kind in ("lora", "lycoris", "single")),
    ]
    assert [form.NAME for form in whole_files()] == ["single file"]
    state = open_base(str(tiny_folder)).denoiser_state()
    moved = {name: value + 1 for name, value in state.items()}
    save_delta(tmp_path / "delta.safetensors", state, moved)
    save_file(moved, tmp_path / "state.safetensors")
    torch.save({"state_dict": moved}, tmp_path / "state.pt")
    tiny_single_file(tiny_folder, tmp_path / "single.safetensors")
    found = {file.name: format_of(file).NAME for file in tmp_path.iterdir()}
    assert found == {
        "delta.safetensors": "delta",
        "state.safetensors": "state dict of a denoiser",
        "state.pt": "state dict of a denoiser",
        "single.safetensors": "single file",
    }
    assert format_of(tiny_folder).NAME == "diffusers folder"
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(UserError, match="not a model file: give a folder, or one of .safetensors"):
        format_of(tmp_path / "notes.txt")


def test_a_state_dict_is_unpacked_beside_its_base(tiny_folder: Path, tmp_path: Path) -> None:
    state = open_base(str(tiny_folder)).denoiser_state()
    trained = {name: value + 1 for name, value in state.items() if "attn2" in name}
    save_file(trained, tmp_path / "esd.safetensors")
    with pytest.raises(UserError, match="add --base"):
        export(str(tmp_path / "esd.safetensors"), str(tmp_path / "out"))
    export(str(tmp_path / "esd.safetensors"), str(tmp_path / "out"), base=str(tiny_folder))
    after = load_file(tmp_path / "out/unet/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(after[name], trained.get(name, state[name])) for name in state)


def test_a_new_format_is_one_file(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy_with(tmp_path, "formats/npz.py", NEW)
    there, back = tmp_path / "denoiser.npz", tmp_path / "back"
    said = run(
        folder,
        ["export", str(tiny_folder), str(there)],
        ["export", str(there), str(back), "--base", str(tiny_folder)],
        [
            *("export", str(tiny_folder), str(tmp_path / "two.npz")),
            *("--format", "arrays", "--count", "2"),
        ],
    )
    with pytest.raises(AssertionError, match="--format delta writes a file whose name ends in"):
        run(folder, ["export", str(tiny_folder), str(tmp_path / "other.npz"), "--delta"])
    assert "two.npz: 2 arrays" in said and "with the NumPy archive applied" in said
    state = open_base(str(tiny_folder)).denoiser_state()
    with np.load(there) as arrays:
        assert set(arrays.files) == set(state)
    after = open_base(str(back)).denoiser_state()
    assert all(torch.equal(after[name], value) for name, value in state.items())
