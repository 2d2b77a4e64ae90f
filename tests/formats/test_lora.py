"""A LoRA is the edit's best approximation, and every layer of it loads in diffusers."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version
from safetensors.torch import load_file

from erase.diffusion.model import Diffusion
from erase.formats.base import open_base
from erase.formats.export import export
from erase.formats.foreign import included_state
from erase.formats.lora import low_rank
from erase.formats.tensors import read_metadata
from erase.runtime.errors import UserError
from tests.formats.edits import edited
from tests.tiny import tiny_sd, tiny_sd2, tiny_sdxl

# As published: attention where the original layout's names, and diffusers' reading, expect it.
XL: dict[str, Any] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
BASES: dict[str, Callable[[Path], Path]] = {
    "sd_v1": tiny_sd,
    "sd_v2": tiny_sd2,
    "sdxl_base_v1-0": lambda folder: tiny_sdxl(folder, **XL),
}


@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
@pytest.mark.parametrize("rank", [1, 3, 99])
def test_the_best_approximation_of_a_rank(shape: tuple[int, int], rank: int) -> None:
    """Against torch's own singular value decomposition; of a matrix of rank 4 no more is kept."""
    draw = torch.Generator().manual_seed(1)
    left, right = torch.randn(shape[0], 4, generator=draw), torch.randn(4, shape[1], generator=draw)
    matrix = 1e-5 * left @ right
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    r = min(rank, 4)
    up, down = low_rank(matrix, rank)
    assert (up.shape, down.shape) == ((shape[0], r), (r, shape[1]))
    expected = (u[:, :r] * s[:r]) @ vh[:r]
    torch.testing.assert_close(up @ down, expected.float(), rtol=1e-4, atol=1e-10)
    torch.testing.assert_close(up.norm(dim=0), down.norm(dim=1))  # neither under- nor overflows


@pytest.mark.skipif(
    Version(version("diffusers")) < Version("0.42"),
    reason="diffusers 0.38 leaves out 4 of 83 layers, and refuses XL's class embedding",
)
@pytest.mark.parametrize("name", BASES)
def test_every_layer_loads_in_diffusers(name: str, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    base, erased, file = BASES[name](tmp_path / "base"), tmp_path / "e", tmp_path / "x.safetensors"
    state = edited(base, erased)
    said = export(str(erased), str(file), kind="lora", base=str(base), options={"rank": 8})
    matrices = [key for key, value in state.items() if value.ndim > 1]
    assert f"rank 8 for {len(matrices)} layers" in said
    assert read_metadata(file)["ss_base_model_version"] == name  # by which A1111 offers it

    pipeline = DiffusionPipeline.from_pretrained(base)
    stock, ours = Diffusion(pipeline, "stock"), Diffusion.load(str(base), edit=file)
    c, draw = ours.embed(["a church"]), torch.Generator().manual_seed(2)
    x, t = torch.randn(1, 4, 8, 8, generator=draw), torch.tensor([500])
    with torch.no_grad():
        before = stock.predict(x, t, c)
        pipeline.load_lora_weights(file.parent, weight_name=file.name)
        after = stock.predict(x, t, c)
    loaded = [m for m in pipeline.unet.modules() if "default_0" in getattr(m, "lora_A", ())]
    assert len(loaded) == len(matrices)
    fused = ours.predict(x, t, c)
    torch.testing.assert_close(after, fused, rtol=1e-4, atol=1e-5)
    assert (after - before).abs().max() > 1e-3


def test_energy_counts_what_is_left_out(tiny_folder: Path, tmp_path: Path) -> None:
    """Of Σ(θ − θ0)², what the file brings back; biases and norms are lost at any rank."""
    state = edited(tiny_folder, tmp_path / "e")
    base = open_base(str(tiny_folder))
    before = base.denoiser_state()
    sizes = []
    for more in ({}, {"dtype": "fp16"}):
        file = tmp_path / f"x{len(sizes)}.safetensors"
        said = export(
            str(tmp_path / "e"),
            str(file),
            kind="lora",
            base=str(tiny_folder),
            options={"rank": 4},
            **more,  # type: ignore[arg-type]
        )
        found = included_state(file, base)
        lost = sum(float((state[k] - found[k]).double().square().sum()) for k in state)
        total = sum(float((state[k] - before[k]).double().square().sum()) for k in state)
        assert 0.1 < lost / total < 0.99
        assert f"{100 * (1 - lost / total):.1f}\u00a0% of the edit's energy" in said
        sizes.append(file.stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]
    moved = {k for k in state if not torch.equal(found[k], before[k])}
    assert moved == {k for k in state if state[k].ndim > 1}


def test_only_layers_that_moved(tiny_folder: Path, tmp_path: Path) -> None:
    edited(tiny_folder, tmp_path / "e", only="attn2.to_k.weight")
    said = export(str(tmp_path / "e"), str(tmp_path / "x.safetensors"), kind="lora",
                  base=str(tiny_folder), options={"rank": 32})  # fmt: skip
    assert "100.0\u00a0% of the edit's energy" in said  # they are 32 wide
    names = {name.partition(".")[0] for name in load_file(tmp_path / "x.safetensors")}
    assert names and all(name.endswith("attn2_to_k") for name in names)


def test_mistakes(tiny_folder: Path, tmp_path: Path) -> None:
    edited(tiny_folder, tmp_path / "e", only="norm1.weight")
    source, file = str(tmp_path / "e"), str(tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="--rank 0 is less than 1"):
        export(source, file, kind="lora", base=str(tiny_folder), options={"rank": 0})
    with pytest.raises(UserError, match="A LoRA needs --base"):
        export(source, file, kind="lora")
    with pytest.raises(UserError, match="Only biases and norms .*--format lycoris"):
        export(source, file, kind="lora", base=str(tiny_folder))
    with pytest.raises(UserError, match="equals its base"):
        export(str(tiny_folder), file, kind="lora", base=str(tiny_folder))
    assert not Path(file).exists()
