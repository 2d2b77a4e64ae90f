"""``erase export`` in every direction, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from erase.cli.main import main
from erase.diffusion.model import Diffusion
from erase.formats.base import open_base
from erase.formats.export import Origin, export
from erase.formats.pipeline import save_model
from erase.runtime.errors import UserError
from erase.runtime.fingerprint import fingerprint_state
from tests.tiny import tiny_sdxl


def unet(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(next((folder / "unet").glob("*.safetensors")))


@pytest.fixture
def erased(tiny: Diffusion, tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny model with a third of one matrix moved by 1e-5."""
    from erase.formats.base import open_base
    from erase.formats.pipeline import save_model

    state = {k: v.clone() for k, v in tiny.denoiser.state_dict().items()}
    name = next(n for n in state if n.endswith("attn2.to_k.weight"))
    state[name].view(-1)[::3] += 1e-5
    save_model(open_base(str(tiny_folder)), state, tmp_path / "erased")
    return tmp_path / "erased"


def test_folder_to_file_and_back_is_bit_exact(erased: Path, tmp_path: Path) -> None:
    export(str(erased), str(tmp_path / "x.safetensors"))
    export(str(tmp_path / "x.safetensors"), str(tmp_path / "back"))
    before, after = unet(erased), unet(tmp_path / "back")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("name", ["x.ckpt", "x.SAFETENSORS"])
def test_a_target_that_nothing_is_written_as(erased: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"Nothing is written as a \.\w+ file"):
        export(str(erased), str(tmp_path / name))
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("kind", ["delta", "lora", "lycoris"])
def test_an_edit_cannot_hold_another_kind_of_model(
    erased: Path, tiny_folder: Path, tmp_path: Path, kind: str
) -> None:
    config = erased / "scheduler" / "scheduler_config.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text()), "prediction_type": "v_prediction"})
    )
    with pytest.raises(UserError, match="has the prediction_type v_prediction, but the base"):
        export(str(erased), str(tmp_path / "x.safetensors"), kind=kind, base=str(tiny_folder))


def test_eight_bit_floats_are_weights_like_others(tiny_folder: Path, tmp_path: Path) -> None:
    state = unet(tiny_folder)
    name = next(n for n in state if n.endswith("attn2.to_k.weight"))
    for folder, shift in (("base", 0.0), ("moved", 1.0)):
        shutil.copytree(tiny_folder, tmp_path / folder)
        own = {k: (v + shift * (k == name)).to(torch.float8_e4m3fn) for k, v in state.items()}
        [file] = (tmp_path / folder / "unet").glob("*.safetensors")
        save_file(own, file, {"format": "pt"})
    base = str(tmp_path / "base")
    export(str(tmp_path / "moved"), str(tmp_path / "x.safetensors"), kind="delta", base=base)
    assert any(k.startswith(name) for k in load_file(tmp_path / "x.safetensors"))


def test_delta_applied_to_the_base_is_the_erased_model(
    erased: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    delta = tmp_path / "d.safetensors"
    said = export(str(erased), str(delta), kind="delta", base=str(tiny_folder))
    base, after = unet(tiny_folder), unet(erased)
    moved = sum(int((base[k] != after[k]).sum()) for k in base)
    assert f"{moved:,} moved weights" in said
    assert moved > 0
    assert delta.stat().st_size < 0.1 * sum(v.numel() * 4 for v in base.values())
    export(str(delta), str(tmp_path / "again"), base=str(tiny_folder))
    again = unet(tmp_path / "again")
    assert all(torch.equal(again[k].float(), after[k].float()) for k in after)


def test_a_delta_is_of_denoiser_and_text_encoders_alone(
    erased: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """What else differs would be lost without a word."""
    from tests.formats.test_single_file import learned

    shutil.copytree(erased, tmp_path / "other")
    file = tmp_path / "other/vae/diffusion_pytorch_model.safetensors"
    save_file({k: v + 1 for k, v in load_file(file).items()}, file, {"format": "pt"})
    shutil.copytree(erased, tmp_path / "token")
    learned(tmp_path / "token", "added_tokens.json")
    shutil.copytree(tiny_folder, tmp_path / "words")
    for name, part in (("other", "vae"), ("token", "tokenizer"), ("words", "tokenizer")):
        if name == "words":  # the same embeddings under other words
            vocabulary = tmp_path / "words/tokenizer/vocab.json"
            known = json.loads(vocabulary.read_text())
            known["church</w>"], known["truck</w>"] = known["truck</w>"], known["church</w>"]
            vocabulary.write_text(json.dumps(known))
        with pytest.raises(UserError, match=f"the {part} of .* differs .*--format single"):
            export(
                str(tmp_path / name),
                str(tmp_path / "d.safetensors"),
                kind="delta",
                base=str(tiny_folder),
            )


def test_half_precision_says_how_many_edits_survive(
    erased: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = export(str(erased), str(tmp_path / "h.safetensors"), dtype="fp16", base=str(tiny_folder))
    base, after = unet(tiny_folder), unet(erased)
    moved = sum(int((base[k] != after[k]).sum()) for k in base)
    kept = sum(int((base[k].half() != after[k].half()).sum()) for k in base)
    assert 0 < kept < moved
    counted = f"{kept:,} of {moved:,} moved weights"
    assert counted in said
    # A run knows its base.
    origin = Origin(str(tiny_folder))
    file = tmp_path / "run.safetensors"
    assert counted in export(str(erased), str(file), dtype="fp16", origin=origin)
    lost, file = Origin(str(tmp_path / "moved")), tmp_path / "lost.safetensors"
    assert "moved weights" not in export(str(erased), str(file), dtype="fp16", origin=lost)
    assert "how much of the edit fp16 leaves was not counted" in capsys.readouterr().err


def test_mistakes(erased: Path, tiny_folder: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.safetensors"
    taken.write_bytes(b"")
    wrong: list[tuple[tuple[str, str], dict[str, object], str]] = [
        ((str(erased), str(taken)), {}, "exists"),
        ((str(tmp_path / "no"), str(tmp_path / "y.safetensors")), {}, "no model"),
        ((str(erased), str(tmp_path / "y")), {}, "end the target in .safetensors"),
        ((str(erased), str(tmp_path / "y.safetensors")), {"kind": "delta"}, "--base"),
        ((str(erased), str(tmp_path / "y")), {"kind": "lora"}, "ends in .safetensors"),
        ((str(erased), str(tmp_path / "y.safetensors")), {"kind": "lore"}, "Did you mean 'lora'"),
        ((str(erased), str(tmp_path / "y.safetensors")), {"options": {"rank": 2}}, "--rank has no"),
        ((str(taken), str(tmp_path / "y")), {"dtype": "fp16"}, "--dtype"),
        ((str(taken), str(tmp_path / "y")), {"kind": "delta"}, "not of the format delta"),
    ]
    for where, options, named in wrong:
        with pytest.raises(UserError, match=named):
            export(*where, **options)  # type: ignore[arg-type]
    delta = tmp_path / "d.safetensors"
    export(str(erased), str(delta), kind="delta", base=str(tiny_folder))
    with pytest.raises(UserError, match="a different base"):
        export(str(delta), str(tmp_path / "y"), base=str(erased))
    with pytest.raises(UserError, match="add --base"):
        export(str(delta), str(tmp_path / "y"))


def test_command(erased: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run's own base is known; today's flag and the name after ``--format`` are one."""
    main(["export", str(erased), str(tmp_path / "c.safetensors")])
    assert "tensors" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["export", str(erased), str(tmp_path / "d.safetensors"), "--delta"])
    assert "A delta needs --base" in capsys.readouterr().err
    run = tmp_path / "run"
    shutil.copytree(erased, run / "model")
    (run / "run.json").write_text(json.dumps({"stages": {}, "model": {"source": str(erased)}}))
    for flags in (["--delta"], ["--format", "delta"]):
        with pytest.raises(SystemExit):
            main(["export", str(run), str(tmp_path / "d.safetensors"), *flags])
        assert "equals its base" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["export", str(run), str(tmp_path / "d.safetensors"), "--delta", "--format", "lora"])
    assert "can't be combined" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["lora", "lycoris"])
def test_an_edit_is_not_written_against_another_base(
    kind: str, erased: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but the denoiser is alike, as in Stable Diffusion 1.4 and 1.5."""
    run, foreign = tmp_path / "run", tmp_path / "foreign"
    shutil.copytree(erased, run / "model")
    state = open_base(str(tiny_folder)).denoiser_state()
    told = {"source": str(tiny_folder), "fingerprint": {"denoiser": fingerprint_state(state)}}
    (run / "run.json").write_text(json.dumps({"stages": {}, "model": told}))
    save_model(open_base(str(tiny_folder)), {k: v + 0.1 for k, v in state.items()}, foreign)
    argv = ["export", str(run), str(tmp_path / "x.safetensors"), "--format", kind]
    with pytest.raises(SystemExit) as stop:
        main([*argv, "--base", str(foreign)])
    assert stop.value.code == 2
    assert "was not erased from" in capsys.readouterr().err
    main([*argv, "--base", str(tiny_folder)])
    assert (tmp_path / "x.safetensors").is_file()


def test_models_that_no_edit_leads_between(erased: Path, tiny_folder: Path, tmp_path: Path) -> None:
    def refused(source: Path, base: Path) -> str:
        with pytest.raises(UserError) as caught:
            export(str(source), str(tmp_path / "x.safetensors"), kind="lora", base=str(base))
        return str(caught.value)

    assert "same architecture" in refused(tiny_folder, tiny_sdxl(tmp_path / "xl"))
    assert "same architecture" in refused(tmp_path / "xl", tiny_folder)
    shutil.copytree(erased, tmp_path / "broken")
    file = tmp_path / "broken/unet/diffusion_pytorch_model.safetensors"
    state = load_file(file)
    next(iter(state.values())).fill_(float("nan"))
    save_file(state, file, {"format": "pt"})
    assert "weights that are not finite" in refused(tmp_path / "broken", tiny_folder)


def test_what_a_folders_precision_rounded_off_has_not_moved(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """A folder in half precision whose one weight was erased, beside a base in full."""
    before = open_base(str(tiny_folder)).denoiser_state()
    half = {name: value.half() for name, value in before.items()}
    half["conv_in.weight"] = half["conv_in.weight"] + 1
    shutil.copytree(tiny_folder, tmp_path / "half")
    save_file(half, tmp_path / "half/unet/diffusion_pytorch_model.safetensors", {"format": "pt"})
    said = export(
        str(tmp_path / "half"), str(tmp_path / "x.safetensors"), kind="lora", base=str(tiny_folder)
    )
    assert "for 1 layer," in said


def test_an_edit_of_text_encoders_applies_to_a_base_with_old_buffers(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """Text encoders that older transformers saved hold their position numbers."""
    places = [Path(shutil.copytree(tiny_folder, tmp_path / name)) for name in ("base", "erased")]
    for place, shift in zip(places, (0.0, 0.01), strict=True):
        file = place / "text_encoder/model.safetensors"
        state = {name: value + shift for name, value in load_file(file).items()}
        state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        save_file(state, file, {"format": "pt"})
    base, erased = map(str, places)
    export(erased, str(tmp_path / "d.safetensors"), kind="delta", base=base)
    edited = Diffusion.load(base, edit=tmp_path / "d.safetensors")
    whole = Diffusion.load(erased)
    assert torch.equal(edited.embed(["a church"]).hidden, whole.embed(["a church"]).hidden)
