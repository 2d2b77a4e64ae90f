"""Models that others erased, in every form they come in, and in a comparison."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from erase.cli.main import main
from erase.formats.base import open_base
from erase.formats.delta import apply_delta, save_delta
from erase.formats.export import export
from erase.formats.foreign import included_state
from erase.formats.pipeline import save_model
from erase.formats.single_file import export_single_file
from erase.runtime.errors import UserError
from erase.study.cell import Cell, run_cell
from erase.study.compare import make_matrix, run_matrix, summarise
from erase.study.matrix import COMMON, Common, Matrix
from tests.study.test_compare import small


def erased(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A base's denoiser, and the same with its cross-attention keys moved."""
    before = open_base(str(folder)).denoiser_state()
    after = {k: v + 0.01 if "attn2.to_k" in k else v for k, v in before.items()}
    return before, after


def forms(folder: Path, place: Path) -> dict[str, Path]:
    """The erased model as other tools write it."""
    before, after = erased(folder)
    found = {name: place / name for name in ("folder", "unet", "whole.pt", "esd.safetensors")}
    found |= {name: place / name for name in ("single.safetensors", "delta.safetensors", "u.bin")}
    save_model(open_base(str(folder)), after, found["folder"])
    shutil.copytree(found["folder"] / "unet", found["unet"])
    torch.save(after, found["whole.pt"])
    torch.save({"state_dict": {f"unet.{k}": v for k, v in after.items()}}, found["u.bin"])
    part = {k: v.contiguous() for k, v in after.items() if "attn2" in k}
    save_file(part, found["esd.safetensors"])
    export_single_file(found["folder"], found["single.safetensors"])
    save_delta(found["delta.safetensors"], before, after)
    return found


def test_every_form_gives_the_same_model(tiny_folder: Path, tmp_path: Path) -> None:
    _, after = erased(tiny_folder)
    for name, path in forms(tiny_folder, tmp_path).items():
        state = included_state(path, open_base(str(tiny_folder)))
        assert state.keys() == after.keys()
        for key, value in state.items():
            assert value.dtype == torch.float32
            assert torch.equal(value, after[key]), (name, key)


def test_what_published_code_saves(tiny_folder: Path, tmp_path: Path) -> None:
    """Concept Ablation's delta, and a denoiser saved within DataParallel."""
    before, after = erased(tiny_folder)
    moved = {k: v for k, v in after.items() if "attn2" in k}
    saved: dict[str, object] = {
        "delta.bin": {"unet": moved},
        "delta_token.bin": {"unet": moved, "modifier_token": {}},
        "parallel.pt": {f"module.{k}": v for k, v in after.items()},
        "trainer.pt": {"model": {f"module.unet.{k}": v for k, v in after.items()}, "step": 3},
    }
    for name, content in saved.items():
        torch.save(content, tmp_path / name)
        state = included_state(tmp_path / name, open_base(str(tiny_folder)))
        assert state.keys() == before.keys()
        assert all(torch.equal(state[k], after[k]) for k in after), name


def test_what_is_no_denoiser_is_said(tiny_folder: Path, tmp_path: Path) -> None:
    _, after = erased(tiny_folder)
    base, file = open_base(str(tiny_folder)), tmp_path / "m.safetensors"
    save_file({"unet.a.lora_A.weight": torch.ones(2), "unet.a.lora_B.weight": torch.ones(2)}, file)
    with pytest.raises(UserError, match="is a LoRA"):
        included_state(file, base)
    name = next(k for k in after if "attn2" in k)
    save_file({name: torch.full_like(after[name], torch.nan)}, file)
    with pytest.raises(UserError, match="not finite"):
        included_state(file, base)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_rounding_did_has_not_moved(
    tiny_folder: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    before, after = erased(tiny_folder)
    save_file({k: v.to(dtype).contiguous() for k, v in after.items()}, tmp_path / "m.safetensors")
    state = included_state(tmp_path / "m.safetensors", open_base(str(tiny_folder)))
    for name, value in state.items():
        if "attn2.to_k" in name:
            assert not torch.equal(value, before[name])
            torch.testing.assert_close(value, after[name], rtol=0.01, atol=1e-3)
        else:
            assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("ours", "theirs"), [(torch.float16, torch.bfloat16), (torch.bfloat16, torch.float16)]
)
def test_half_of_another_kind_has_not_moved_either(
    ours: torch.dtype, theirs: torch.dtype, tiny_folder: Path, tmp_path: Path
) -> None:
    for folder, dtype in (("ours", ours), ("theirs", theirs)):
        pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder, torch_dtype=ours)
        pipeline.to(dtype).save_pretrained(tmp_path / folder)
    base = open_base(str(tmp_path / "ours"))
    state = included_state(tmp_path / "theirs", base)
    assert all(torch.equal(state[k], v.float()) for k, v in base.denoiser_state().items())


class Danger:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("never",))


def test_what_does_not_fit_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    base = open_base(str(tiny_folder))
    name = "conv_in.weight"

    def refused(path: Path) -> str:
        with pytest.raises(UserError) as error:
            included_state(path, base)
        return str(error.value)

    assert "There is no model" in refused(tmp_path / "nothing.safetensors")
    (tmp_path / "notes.txt").write_text("x")
    assert "not a model file" in refused(tmp_path / "notes.txt")
    save_file({"conv_inn.weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    assert f"Did you mean '{name}'" in refused(tmp_path / "a.safetensors")
    save_file({name: torch.zeros(2)}, tmp_path / "b.safetensors")
    assert "is (2,) there" in refused(tmp_path / "b.safetensors")
    save_file({"lora_unet_conv_in.hada_w1_a": torch.zeros(2)}, tmp_path / "loha.safetensors")
    assert "such as LoHa or LoKr" in refused(tmp_path / "loha.safetensors")
    save_file({}, tmp_path / "c.safetensors")
    assert "holds no weights" in refused(tmp_path / "c.safetensors")
    torch.save({"x": Danger()}, tmp_path / "d.pt")
    assert "a dictionary with 'x', not a state dict" in refused(tmp_path / "d.pt")


def test_a_pipeline_differs_in_its_denoiser_alone(tiny_folder: Path, tmp_path: Path) -> None:
    """What else others changed would be left out of the measurement without a word."""
    base = open_base(str(tiny_folder))
    theirs = tmp_path / "theirs"
    _, after = erased(tiny_folder)
    save_model(base, after, theirs)
    texts = theirs / "text_encoder" / "model.safetensors"
    before = load_file(texts)
    save_file({k: v.half() for k, v in before.items()}, texts, {"format": "pt"})
    assert included_state(theirs, base).keys() == after.keys()  # the same in half precision
    name = next(k for k, v in before.items() if v.ndim == 2)
    moved = before[name].clone()
    moved[0, 0] += 0.01
    save_file({**before, name: moved}, texts, {"format": "pt"})
    with pytest.raises(
        UserError, match="The text_encoder of .* differs from the base.*erase eval --images"
    ):
        included_state(theirs, base)
    save_file(before, texts, {"format": "pt"})
    export_single_file(theirs, tmp_path / "one.safetensors")
    included_state(tmp_path / "one.safetensors", base)
    theirs_too, same = tmp_path / "bf16", open_base(str(theirs))
    shutil.copytree(theirs, theirs_too)
    for place, dtype in ((theirs, torch.float16), (theirs_too, torch.bfloat16)):
        file = place / "text_encoder" / "model.safetensors"
        save_file({k: v.to(dtype) for k, v in before.items()}, file, {"format": "pt"})
    included_state(theirs_too, same)
    save_file(before, texts, {"format": "pt"})
    config = theirs / "scheduler" / "scheduler_config.json"
    facts = json.loads(config.read_text())
    config.write_text(json.dumps({**facts, "prediction_type": "v_prediction"}))
    export_single_file(theirs, tmp_path / "two.safetensors")
    for place in (theirs, tmp_path / "two.safetensors"):
        with pytest.raises(UserError, match="prediction_type v_prediction, but the base.* epsilon"):
            included_state(place, base)
    config.write_text(json.dumps({**facts, "rescale_betas_zero_snr": True}))
    with pytest.raises(UserError, match="rescale_betas_zero_snr True, but the base"):
        included_state(theirs, base)
    config.write_text(json.dumps(facts))
    weights = theirs / "unet" / "diffusion_pytorch_model.safetensors"
    part = {k: v for k, v in load_file(weights).items() if k != "conv_in.weight"}
    save_file(part, weights, {"format": "pt"})
    for place in (theirs, theirs / "unet"):
        with pytest.raises(UserError, match=r"conv_in\.weight"):
            included_state(place, base)


def run_of(model: Path, folder: Path) -> Path:
    """The folder of a run, which stands for the model that it made."""
    shutil.copytree(model, folder / "model")
    (folder / "run.json").write_text("{}")
    return folder


def test_in_a_comparison(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    models = forms(tiny_folder, tmp_path / "theirs")
    models["esd.safetensors"].rename(tmp_path / "theirs" / "church.safetensors")
    captions = tmp_path / "retain.csv"
    captions.write_text("case_number,prompt,evaluation_seed\n0,a dog,1\n1,a tree,1000\n")

    def make(includes: list[str], seeds: int = 1) -> Matrix:
        return make_matrix(
            str(tiny_folder),
            ["uce"],
            ["imagenette/church"],
            range(seeds),
            tmp_path / "m",
            small(["uce"]),
            common=Common(retain=str(captions)),
            includes=includes,
        )

    pattern = f"their-esd={tmp_path}/theirs/{{concept}}.safetensors"
    lora = tmp_path / "lora.safetensors"
    export(str(models["folder"]), str(lora), kind="lora", base=str(tiny_folder))
    included = [pattern, f"base={run_of(tiny_folder, tmp_path / 'run')}", f"half-a-lora={lora}@0.5"]
    matrix = make(included, seeds=2)
    found = matrix.cells
    # One model stands for all seeds: its images are the same.
    assert [c.recipe.name for c in found] == ["uce", "their-esd", "base", "half-a-lora", "uce"]
    assert run_matrix(matrix) == []
    facts = {c.recipe.name: c.finished() for c in found}
    ours, base = facts["their-esd"], facts["base"]
    assert ours is not None and base is not None
    before, after = erased(tiny_folder)
    assert ours["moved"] == sum(int((before[k] != after[k]).sum()) for k in before)
    assert (base["moved"], base["bytes"], base["training_seconds"]) == (0, 0, None)
    # To be stored beside the base is their own file.
    assert ours["bytes"] == (tmp_path / "theirs/church.safetensors").stat().st_size
    assert ours["method"] == "included" and ours["settings"]["file"] == "church.safetensors"
    # How its images are made and how many, nothing of how it was.
    assert ours["settings"].keys() == {*COMMON, "name", "method", "file", "strength"}
    assert not (found[1].folder / "mask.safetensors").exists()
    # A model that others erased is measured like any other: the base's images are the base's.
    place = found[2].folder / "eval"
    for file in sorted(place.glob("base/*/*.png")):
        assert (
            file.read_bytes() == (place / "erased" / file.relative_to(place / "base")).read_bytes()
        )
    text = summarise(matrix)
    assert "| their-esd |" in text and "Not measured in any cell: UA; " in text
    assert {r["recipe"] for r in json.loads((tmp_path / "m/compare.json").read_text())["rows"]} == {
        "uce",
        "their-esd",
        "base",
        "half-a-lora",
    }
    weaker = facts["half-a-lora"]
    assert weaker is not None and weaker["settings"]["strength"] == 0.5
    assert weaker["moved"] >= ours["moved"]  # of a layer that moved every weight does
    # At another strength it is another row, and so is its cell.
    half = make([f"half={tmp_path}/theirs/{{concept}}.safetensors@0.5"]).cells[1]
    assert (half.recipe.config.strength, half.recipe.config.file) == (0.5, "church.safetensors")
    with pytest.raises(UserError, match="There is no model .*@half"):
        make([f"half={tmp_path}/theirs/{{concept}}.safetensors@half"])
    # Another file under the same name is another cell.
    save_file({"conv_in.bias": before["conv_in.bias"] + 1}, tmp_path / "theirs/church.safetensors")
    from erase.runtime.files import identity

    identity.cache_clear()
    assert matrix.cells[1].finished() is None


def test_another_strength_of_a_row_is_another_model(tiny_folder: Path, tmp_path: Path) -> None:
    before, after = erased(tiny_folder)
    file = tmp_path / "esd.safetensors"
    save_file({k: v.contiguous() for k, v in after.items() if "attn2" in k}, file)

    def cell(included: str) -> Cell:
        settings = small(["uce"])
        where = ["imagenette/church"], range(1), tmp_path / "m"
        found = make_matrix(str(tiny_folder), ["uce"], *where, settings, includes=[included])
        return found.cells[1]

    run_cell(cell(f"theirs={file}"), overwrite=False)
    again = cell(f"theirs={file}@0.5")
    assert again.finished() is None
    run_cell(again, overwrite=True)
    half = apply_delta(again.folder / "delta.safetensors", before)
    for name in after:
        torch.testing.assert_close(half[name], (before[name] + after[name]) / 2)


def test_bad_input_is_one_sentence(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*args: str, concepts: str = "imagenette/church") -> str:
        common = ["compare", "--recipes", "uce", "--concepts", concepts, "--out", str(tmp_path)]
        with pytest.raises(SystemExit) as stopped:
            main([*common, "--model", str(tiny_folder), "--include", *args])
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "is not NAME=PATH" in refused("theirs.safetensors")
    assert "is not NAME=PATH" in refused("A/B=theirs.safetensors")
    assert "There is no model" in refused("theirs=nowhere.safetensors")
    assert "given twice" in refused("uce=theirs.safetensors")
    both = "imagenette/church,imagenette/tench"
    assert "one model for 2 concepts" in refused("theirs=x.safetensors", concepts=both)
