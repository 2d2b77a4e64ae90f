"""Single files in the original layout, against diffusers' own reader and bit by bit."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from erase.formats.base import mini_folder
from erase.formats.folder import layout_of, networks, read_state
from erase.formats.original.config import infer
from erase.formats.pipeline import load_pipeline
from erase.formats.single_file import METADATA, export_single_file, unpack
from erase.runtime.errors import UserError
from erase.runtime.notes import Note
from tests import tiny
from tests.tiny import import_single_file, tiny_sd, tiny_sd2, tiny_sdxl, tiny_single_file

THREE_LEVELS = {
    "block_out_channels": (16, 32, 48),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
}
DEEP = {"layers_per_block": 2}


@pytest.fixture(scope="module")
def single(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_single_file(tiny_folder, tmp_path_factory.mktemp("single") / "tiny.safetensors")


def states(folder: Path) -> dict[str, dict[str, Tensor]]:
    return {c: read_state(folder, c) for c in networks(folder)}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Names, dtypes and bits."""
    return set(a) == set(b) and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("changes", [{}, DEEP, THREE_LEVELS], ids=["tiny", "deep", "three levels"])
def test_diffusers_own_reader_finds_every_weight(changes: dict[str, Any], tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    folder = tiny_sd(tmp_path / "sd", **changes)
    file = tiny_single_file(folder, tmp_path / "x.safetensors")
    theirs = StableDiffusionPipeline.from_single_file(
        str(file), config=str(folder), local_files_only=True, safety_checker=None
    )
    ours = StableDiffusionPipeline.from_pretrained(folder)
    for component in networks(folder):
        a, b = (getattr(p, component).state_dict() for p in (theirs, ours))
        assert same(a, b)


@pytest.mark.parametrize("make", [tiny_sd2, tiny_sdxl])
def test_diffusers_reads_the_other_kinds_too(make: Callable[[Path], Path], tmp_path: Path) -> None:
    import diffusers

    folder = make(tmp_path / "model")
    kind = getattr(diffusers, layout_of(folder).pipeline)
    ours = kind.from_pretrained(folder)
    file = tiny_single_file(folder, tmp_path / "x.safetensors")
    theirs = kind.from_single_file(str(file), config=str(folder), local_files_only=True)
    for component in networks(folder):
        a, b = (getattr(p, component).state_dict() for p in (theirs, ours))
        assert same(a, b), component
    before = states(folder)
    import_single_file(file, tmp_path / "back")
    after = states(tmp_path / "back")
    assert all(same(before[c], after[c]) for c in before)
    back = kind.from_pretrained(tmp_path / "back")
    assert back.tokenizer("a church", padding="max_length").input_ids == (
        ours.tokenizer("a church", padding="max_length").input_ids
    )
    assert dict(back.scheduler.config) == dict(ours.scheduler.config)


def test_the_last_block_of_stable_diffusion_2_and_its_projection_are_left_out(
    tmp_path: Path,
) -> None:
    folder = tiny_sd2(tmp_path / "model")
    file = tiny_single_file(folder, tmp_path / "x.safetensors")
    state = load_file(file)
    blocks = "cond_stage_model.model.transformer.resblocks."
    last = {k.replace(f"{blocks}2.", f"{blocks}3."): v + 1 for k, v in state.items()}
    more = {k: v for k, v in last.items() if k.startswith(f"{blocks}3.")}
    more["cond_stage_model.model.text_projection"] = torch.ones(32, 32)
    more["cond_stage_model.model.logit_scale"] = torch.ones(())
    save_file({**state, **more}, tmp_path / "whole.safetensors")
    before, found = states(folder), tmp_path / "found"
    import_single_file(tmp_path / "whole.safetensors", found, config=folder)
    after = states(found)
    assert all(same(before[c], after[c]) for c in before)


def test_what_a_stable_diffusion_2_file_predicts_has_to_be_told(tmp_path: Path) -> None:
    folder = tiny_sd2(tmp_path / "model")
    file = tiny_single_file(folder, tmp_path / "x.safetensors")
    state = load_file(file)
    assert state.pop("v_pred").numel() == 0
    save_file(state, file)  # without our metadata, and our mark
    with pytest.raises(UserError, match="not a diffusers folder or one of epsilon, v_predict"):
        load_pipeline(f"{file}@v_pred")
    with pytest.raises(UserError, match="x.safetensors@v_prediction"):
        load_pipeline(str(file))
    with pytest.warns(UserWarning, match="unusual size"):
        found = load_pipeline(f"{file}@v_prediction")
    assert found.scheduler.config.prediction_type == "v_prediction"
    assert found.tokenizer.pad_token == "!"
    # As converters write it: every block of the file is used.
    assert found.text_encoder.config.num_hidden_layers == 3


def sd2_file(folder: Path, file: Path) -> tuple[Path, dict[str, Tensor]]:
    """Stable Diffusion 2 with heads as they are guessed at this width, and its bare tensors."""
    unet = {**tiny.UNET, "attention_head_dim": (1, 1), "use_linear_projection": True}
    text = {**tiny.OPEN_CLIP, "num_attention_heads": 1}
    tiny._write(folder, text, unet, tiny._scheduler("v_prediction"))
    return folder, load_file(tiny_single_file(folder, file))


@pytest.mark.filterwarnings("ignore:.*unusual size")
def test_every_block_of_a_converted_stable_diffusion_2_is_used(tmp_path: Path) -> None:
    """Published files have a block more than is used, and OpenCLIP's projection; converted ones
    have neither."""
    folder, state = sd2_file(tmp_path / "sd2", tmp_path / "x.safetensors")
    blocks = {k.replace("resblocks.2.", "resblocks.3."): v + 1 for k, v in state.items()}
    files = {
        "converted": {
            **state,
            "cond_stage_model.model.transformer.text_model.embeddings.position_ids": torch.ones(77),
        },
        "published": {
            **blocks,
            **state,
            "cond_stage_model.model.text_projection": torch.eye(32),
            "cond_stage_model.model.logit_scale": torch.tensor(4.6),
        },
    }
    before = states(folder)
    for name, tensors in files.items():
        file = tmp_path / f"{name}.safetensors"
        save_file(tensors, file)
        import_single_file(file, tmp_path / name, prediction="v_prediction")
        after = states(tmp_path / name)
        assert all(same(before[c], after[c]) for c in before), name
        config = json.loads((tmp_path / name / "text_encoder/config.json").read_text())
        assert config["num_hidden_layers"] == 3
    # A block more than the configuration knows is not dropped without a word.
    more = {k.replace("resblocks.2.", "resblocks.4."): v + 1 for k, v in state.items()}
    save_file({**more, **files["published"]}, tmp_path / "more.safetensors")
    with pytest.raises(UserError, match=r"tensors that .* no place for .*resblocks\.4\."):
        import_single_file(tmp_path / "more.safetensors", tmp_path / "out", config=folder)


@pytest.mark.filterwarnings("ignore:.*unusual size")
def test_marks_say_what_an_xl_file_predicts(tmp_path: Path) -> None:
    """ComfyUI and Forge know v-prediction and zero terminal SNR by two empty tensors."""
    from diffusers import EulerDiscreteScheduler

    unet = {**tiny.UNET, **tiny.XL_UNET, "attention_head_dim": (1, 1)}
    unet["down_block_types"] = ("DownBlock2D", "CrossAttnDownBlock2D")
    unet["up_block_types"] = ("CrossAttnUpBlock2D", "UpBlock2D")
    scheduler = EulerDiscreteScheduler.from_config(tiny._scheduler("epsilon").config)
    folder = tiny._write(tmp_path / "xl", tiny.TEXT, unet, scheduler, second=tiny.SECOND)
    state = load_file(tiny_single_file(folder, tmp_path / "plain.safetensors"))
    assert not {"v_pred", "ztsnr"} & state.keys()
    marks = {name: torch.tensor([]) for name in ("v_pred", "ztsnr")}
    save_file({**state, **marks}, tmp_path / "vpred.safetensors")
    import_single_file(tmp_path / "vpred.safetensors", tmp_path / "folder")
    export_single_file(tmp_path / "folder", tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    assert all(back[name].numel() == 0 for name in marks)
    save_file(back, tmp_path / "bare.safetensors")  # what a merge tool leaves
    import_single_file(tmp_path / "bare.safetensors", tmp_path / "again")
    for place in ("folder", "again"):
        found = json.loads((tmp_path / place / "scheduler/scheduler_config.json").read_text())
        assert found["prediction_type"] == "v_prediction"
        assert found["rescale_betas_zero_snr"] is True
    with pytest.raises(UserError, match="is marked as a model that predicts the velocity"):
        import_single_file(tmp_path / "vpred.safetensors", tmp_path / "no", config=folder)


@pytest.mark.filterwarnings("ignore:.*unusual size")
def test_marks_are_written_and_read_for_every_kind(tiny_v_folder: Path, tmp_path: Path) -> None:
    state = load_file(tiny_single_file(tiny_v_folder, tmp_path / "x.safetensors"))
    assert "v_pred" in state
    assert "ztsnr" not in state
    files = infer({**state, "ztsnr": torch.tensor([])}, "x")
    scheduler = files["scheduler/scheduler_config.json"]
    assert scheduler["prediction_type"] == "v_prediction"
    assert scheduler["rescale_betas_zero_snr"] is True
    assert files["model_index.json"]["scheduler"] == ["diffusers", scheduler["_class_name"]]


@pytest.mark.parametrize(
    "extra",
    [
        "cond_stage_model.transformer.text_projection.weight",
        "cond_stage_model.logit_scale",
        "model_sampling.sigmas",
        "embedding_manager.embedder.initial_embeddings.*",
    ],
)
def test_what_programs_leave_beside_a_model_is_passed_over_and_named(
    extra: str, single: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "x.safetensors"
    save_file({**load_file(single), extra: torch.eye(32)}, file)
    # Of the kind that the command line prints.
    with pytest.warns(Note, match=f"also holds '{re.escape(extra)}'.*ignored") as told:
        import_single_file(file, tmp_path / "out", config=tiny_folder)
    assert len(told) == 1
    assert same(
        read_state(tmp_path / "out", "text_encoder"), read_state(tiny_folder, "text_encoder")
    )


@pytest.mark.filterwarnings("error")
def test_what_training_leaves_beside_a_model_is_nothing_new(
    single: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    names = """model_ema.decay model_ema.num_updates betas alphas_cumprod_prev
        sqrt_recipm1_alphas_cumprod posterior_mean_coef2 first_stage_model.loss.logvar
        first_stage_model.loss.discriminator.main.0.weight loss.perceptual_loss.lin0.model.1.weight
        denoiser.sigmas log_sigmas ddim_sigmas logvar scale_factor""".split()
    file = tmp_path / "x.safetensors"
    save_file({**load_file(single), **{name: torch.zeros(1) for name in names}}, file)
    import_single_file(file, tmp_path / "out", config=tiny_folder)
    save_file({**load_file(single), "model_ema.diffusion_modelout2bias": torch.zeros(4)}, file)
    with pytest.warns(UserWarning, match="also holds averaged weights"):
        import_single_file(file, tmp_path / "out", config=tiny_folder)
    for name in ("control_model.input_blocks.0.0.weight", "edm_vpred.sigma_max", "betas2"):
        save_file({**load_file(single), name: torch.zeros(1)}, file)
        with pytest.raises(UserError, match=f"1 tensors that .* \\('{name}'\\)"):
            import_single_file(file, tmp_path / "out", config=tiny_folder)


def learned(folder: Path, form: str) -> list[int]:
    """Teaches a pipeline folder a token, as textual inversion saves it; ids of a prompt with it."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.add_tokens("<cat>")
    if form == "tokenizer.json":
        shutil.rmtree(folder / "tokenizer")
        tokenizer.save_pretrained(folder / "tokenizer")
    else:
        (folder / "tokenizer" / form).write_text(json.dumps({"<cat>": 49408}))
    file, name = folder / "text_encoder/model.safetensors", "embeddings.token_embedding.weight"
    state = load_file(file)
    table = state[f"text_model.{name}"]
    state[f"text_model.{name}"] = torch.cat([table, torch.full((1, table.shape[1]), 0.25)])
    save_file(state, file, {"format": "pt"})
    config = folder / "text_encoder/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "vocab_size": 49409}))
    return list(tokenizer("a <cat> here").input_ids)


@pytest.mark.parametrize("form", ["tokenizer.json", "added_tokens.json"])
def test_learned_tokens_survive_every_export(form: str, tiny_folder: Path, tmp_path: Path) -> None:
    from erase.formats.base import open_base
    from erase.formats.pipeline import save_model

    folder = tmp_path / "sd"
    shutil.copytree(tiny_folder, folder)
    ids = learned(folder, form)
    assert 49408 in ids
    assert "1 learned tokens" in str(export_single_file(folder, tmp_path / "x.safetensors"))
    import_single_file(tmp_path / "x.safetensors", tmp_path / "back")
    base = open_base(str(folder))
    save_model(base, base.denoiser_state(), tmp_path / "saved")
    for place in ("back", "saved"):
        found = load_pipeline(str(tmp_path / place))
        assert list(found.tokenizer("a <cat> here").input_ids) == ids
        table = found.text_encoder.get_input_embeddings().weight
        assert table.shape[0] == 49409
        assert table[49408].eq(0.25).all()
    assert "learned tokens" not in str(export_single_file(tiny_folder, tmp_path / "y.safetensors"))
    # Tokens without their embeddings would be read past the end of the table.
    for file in ("config.json", "model.safetensors"):
        shutil.copy(tiny_folder / "text_encoder" / file, folder / "text_encoder" / file)
    with pytest.raises(UserError, match="has 49409 tokens, but the text encoder 49408"):
        load_pipeline(str(folder))


def test_the_user_decides_what_a_file_predicts(single: Path) -> None:
    told = load_pipeline(f"{single}@v_prediction").scheduler.config
    assert told.prediction_type == "v_prediction"
    assert load_pipeline(str(single)).scheduler.config.prediction_type == "epsilon"


def test_the_user_decides_beside_a_folder_of_configurations(
    tiny_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "x.safetensors"
    export_single_file(tiny_folder, file)
    for prediction in ("v_prediction", None):
        place = tmp_path / str(prediction)
        place.mkdir()
        unpack(file, place, tiny_folder, prediction)
        told = json.loads((place / "scheduler/scheduler_config.json").read_text())
        assert told["prediction_type"] == (prediction or "epsilon")


def test_the_file_has_the_original_layout(single: Path) -> None:
    state = load_file(single)
    roots = {k.split(".")[0] for k in state}
    assert roots == {"model", "first_stage_model", "cond_stage_model"}
    key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    assert state[key].shape == (32, 32)
    text = "cond_stage_model.transformer.text_model.encoder.layers.1.self_attn.q_proj.weight"
    assert text in state
    assert state["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (32, 32, 1, 1)


def test_round_trip_keeps_every_bit_and_dtype(tmp_path: Path) -> None:
    folder = tiny_sd(tmp_path / "sd", dtype=torch.float16)
    unet = folder / "unet/diffusion_pytorch_model.safetensors"
    mixed = {k: v.float() * 1.0001 if "attn2" in k else v for k, v in load_file(unet).items()}
    save_file(mixed, unet, {"format": "pt"})
    text = folder / "text_encoder/model.safetensors"
    old = {**load_file(text), "text_model.embeddings.position_ids": torch.arange(77)[None]}
    save_file(old, text, {"format": "pt"})  # as published files of SD 1 have it
    before = states(folder)
    export_single_file(folder, tmp_path / "x.safetensors")
    import_single_file(tmp_path / "x.safetensors", tmp_path / "back")
    after = states(tmp_path / "back")
    assert {t.dtype for t in before["unet"].values()} == {torch.float16, torch.float32}
    assert all(same(before[c], after[c]) for c in before)


def test_the_same_model_gives_the_same_bytes(
    tiny_folder: Path, single: Path, tmp_path: Path
) -> None:
    export_single_file(tiny_folder, tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").read_bytes() == single.read_bytes()


def test_configs_travel_along(tiny_folder: Path, single: Path, tmp_path: Path) -> None:
    import_single_file(single, tmp_path / "back")
    for name in ("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"):
        assert (tmp_path / "back" / name).read_text() == (tiny_folder / name).read_text()
    a, b = (load_pipeline(str(f)).tokenizer for f in (tiny_folder, tmp_path / "back"))
    words = ["a truck, drawn in ink", "église"]
    assert a(words, padding="max_length").input_ids == b(words, padding="max_length").input_ids


def test_a_vocabulary_of_its_own_travels_along(tiny_folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "sd"
    shutil.copytree(tiny_folder, own)
    file = own / "tokenizer/vocab.json"
    vocabulary = json.loads(file.read_text())
    a, b = "truck</w>", "church</w>"
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    file.write_text(json.dumps(vocabulary))
    export_single_file(own, tmp_path / "x.safetensors")
    tokenizer = load_pipeline(str(tmp_path / "x.safetensors")).tokenizer
    usual = load_pipeline(str(tiny_folder)).tokenizer
    assert tokenizer("church").input_ids == usual("truck").input_ids


def test_a_tokenizer_in_one_file_is_recognised(
    tiny_folder: Path, single: Path, tmp_path: Path
) -> None:
    # transformers writes CLIP's vocabulary into tokenizer.json; it must not swell the metadata.
    folder = tmp_path / "sd"
    shutil.copytree(tiny_folder, folder)
    tokenizer = load_pipeline(str(tiny_folder)).tokenizer
    shutil.rmtree(folder / "tokenizer")
    tokenizer.save_pretrained(folder / "tokenizer")
    file = tiny_single_file(folder, tmp_path / "x.safetensors")
    with safe_open(file, "pt") as opened:
        assert len(opened.metadata()[METADATA]) < 20_000
    words = ["a truck, drawn in ink", "église"]
    back = load_pipeline(str(file)).tokenizer
    assert back(words).input_ids == tokenizer(words).input_ids
    for name in ("tokenizer.json", "vocab.json"):
        (folder / "tokenizer" / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match="tokenizer has neither a tokenizer.json nor"):
        export_single_file(folder, tmp_path / "y.safetensors")


def test_text_encoder_without_prefix_gets_it(
    tiny_folder: Path, single: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "sd"
    shutil.copytree(tiny_folder, bare)
    file = bare / "text_encoder/model.safetensors"
    names = {k.removeprefix("text_model."): v for k, v in load_file(file).items()}
    save_file(names, file, {"format": "pt"})
    export_single_file(bare, tmp_path / "x.safetensors")
    assert same(load_file(tmp_path / "x.safetensors"), load_file(single))


def test_attention_names_of_old_autoencoders(
    tiny_folder: Path, single: Path, tmp_path: Path
) -> None:
    old = tmp_path / "sd"
    shutil.copytree(tiny_folder, old)
    file = old / "vae/diffusion_pytorch_model.safetensors"
    state = load_file(file)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, before in names.items():
        state = {k.replace(f".{new}.", f".{before}."): v for k, v in state.items()}
    assert "encoder.mid_block.attentions.0.proj_attn.bias" in state
    save_file(state, file, {"format": "pt"})
    export_single_file(old, tmp_path / "x.safetensors")
    assert same(load_file(tmp_path / "x.safetensors"), load_file(single))


def test_half_precision_says_how_many_moved_weights_survive(
    tiny_folder: Path, tmp_path: Path
) -> None:
    # At 1.0 the step of fp16 is 2^-10: half of it up stays, a quarter is rounded away (to even).
    name = "down_blocks.0.resnets.0.conv1.weight"
    file = tiny_folder / "unet/diffusion_pytorch_model.safetensors"
    base = load_file(file)
    base[name].view(-1)[:3] = 1.0
    moved = {**base, name: base[name].clone()}
    moved[name].view(-1)[0] += 2**-10
    moved[name].view(-1)[1] += 2**-12
    target = tmp_path / "sd"
    shutil.copytree(tiny_folder, target)
    save_file(moved, target / "unet/diffusion_pytorch_model.safetensors", {"format": "pt"})
    report = export_single_file(target, tmp_path / "half.safetensors", torch.float16, base)
    assert (report.moved, report.kept) == (2, 1)
    assert "1 of 2 moved weights (50.0\u00a0%) survive" in str(report)
    assert {v.dtype for v in load_file(tmp_path / "half.safetensors").values()} == {torch.float16}
    full = export_single_file(target, tmp_path / "full.safetensors", None, base)
    assert (full.moved, full.kept) == (2, 2)


def foreign(single: Path, file: Path, **more: Tensor) -> Path:
    """The file as another program would write it: no metadata."""
    save_file({**load_file(single), **more}, file)
    return file


def test_a_foreign_file_opens_with_a_config_folder(
    tiny_folder: Path, single: Path, tmp_path: Path
) -> None:
    rest = {"betas": torch.zeros(2), "model_ema.decay": torch.zeros(1), "logvar": torch.zeros(2)}
    file = foreign(single, tmp_path / "x.safetensors", **rest)
    import_single_file(file, tmp_path / "back", tiny_folder)
    assert all(same(a, b) for a, b in zip(
        states(tiny_folder).values(), states(tmp_path / "back").values(), strict=True))  # fmt: skip
    a, b = load_pipeline(str(tiny_folder)), load_pipeline(f"{file}@{tiny_folder}")
    assert a.unet.config.attention_head_dim == b.unet.config.attention_head_dim == 4
    assert a.unet.config.norm_num_groups == b.unet.config.norm_num_groups == 16
    assert dict(a.scheduler.config) == dict(b.scheduler.config)


def test_a_foreign_file_opens_by_convention_and_warns(single: Path, tmp_path: Path) -> None:
    file = foreign(single, tmp_path / "x.safetensors")
    with pytest.warns(UserWarning, match="unusual size"):
        import_single_file(file, tmp_path / "back")
    assert same(read_state(tmp_path / "back", "unet"), read_state_of(single))
    assert load_pipeline(str(tmp_path / "back")).unet.config.block_out_channels == [32, 64]


def read_state_of(single: Path) -> dict[str, Tensor]:
    """The denoiser by the project's reader of the file that carries its config."""
    from erase.formats.base import open_base

    return open_base(str(single)).denoiser_state()


def test_unknown_and_missing_tensors_are_named(single: Path, tmp_path: Path) -> None:
    state = load_file(single)
    with safe_open(single, "pt") as opened:
        metadata = opened.metadata()
    save_file({**state, "lora_up.weight": torch.zeros(1)}, tmp_path / "more.safetensors", metadata)
    with pytest.raises(UserError, match=r"1 tensors that .* \('lora_up.weight'\)"):
        import_single_file(tmp_path / "more.safetensors", tmp_path / "back")
    del state["model.diffusion_model.out.2.bias"]
    save_file(state, tmp_path / "less.safetensors", metadata)
    with pytest.raises(UserError, match=r"lacks tensors in its unet \(1: 'conv_out.bias'\)"):
        import_single_file(tmp_path / "less.safetensors", tmp_path / "back")
    assert not list(tmp_path.glob("*back*"))


@pytest.mark.parametrize("path", ["../evil.txt", "/tmp/evil.txt", "unet/../../evil.json"])
def test_metadata_cannot_write_outside_the_folder(path: str, single: Path, tmp_path: Path) -> None:
    with safe_open(single, "pt") as opened:
        texts = json.loads(opened.metadata()[METADATA])
    metadata = {METADATA: json.dumps({**texts, path: "x"})}
    save_file(load_file(single), tmp_path / "x.safetensors", metadata)
    with pytest.raises(UserError, match="unreadable pipeline metadata"):
        import_single_file(tmp_path / "x.safetensors", tmp_path / "back")


def test_the_bundled_model_makes_the_round_trip(tmp_path: Path) -> None:
    if not mini_folder().is_dir():
        pytest.skip("the bundled model is not trained yet")
    export_single_file(mini_folder(), tmp_path / "x.safetensors")
    import_single_file(tmp_path / "x.safetensors", tmp_path / "back")
    before, after = states(mini_folder()), states(tmp_path / "back")
    assert all(same(before[c], after[c]) for c in before)
