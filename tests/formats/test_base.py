"""Whatever a user calls a model is opened or refused; the erased one opens in stock diffusers."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from erase.formats import base
from erase.formats.base import Base, open_base
from erase.formats.folder import read_state
from erase.formats.pipeline import load_pipeline, merged, save_model
from erase.runtime.errors import UserError
from tests.tiny import import_single_file, tiny_class_unet, tiny_sd, tiny_single_file

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
NETWORKS = ("unet", "vae", "text_encoder")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder stored in fp16, with a safety checker and what else lies around in hub folders."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    folder = tiny_sd(tmp_path_factory.mktemp("half") / "sd", dtype=torch.float16)
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    vision = {**small, "image_size": 16, "patch_size": 8}
    config = CLIPConfig(text_config={**small, "vocab_size": 16}, vision_config=vision)
    StableDiffusionSafetyChecker(config).half().save_pretrained(folder / "safety_checker")
    CLIPImageProcessor().save_pretrained(folder / "feature_extractor")
    index = json.loads((folder / "model_index.json").read_text())
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "LICENSE").write_text("terms")
    (folder / "README.md").write_text("the base's card")
    shutil.copy(folder / UNET, folder / "v1-pruned.safetensors")
    shutil.copy(folder / UNET, folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    shutil.copy(folder / UNET, folder / "unet/diffusion_pytorch_model.bin")
    shutil.copy(folder / TEXT, folder / "text_encoder/pytorch_model.bin")
    return folder


def copied(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def states(pipeline: Any) -> dict[str, dict[str, Tensor]]:
    return {c: getattr(pipeline, c).state_dict() for c in NETWORKS}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return set(a) == set(b) and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def test_a_folder_opens_as_stock_diffusers_opens_it(
    half: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from diffusers import DiffusionPipeline

    pipeline = load_pipeline(str(half))
    assert capfd.readouterr() == ("", "")
    stock = DiffusionPipeline.from_pretrained(half, dtype=torch.float32)
    a, b = states(pipeline), states(stock)
    assert all(same(a[c], b[c]) for c in NETWORKS)
    assert pipeline.safety_checker is None
    assert dict(pipeline.scheduler.config) == dict(stock.scheduler.config)
    assert not any(getattr(pipeline, c).training for c in NETWORKS)


def test_training_in_place_never_reaches_the_file(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copied(tiny_folder, tmp_path / "sd")
    before = (folder / UNET).read_bytes()
    with torch.no_grad():
        for parameter in load_pipeline(str(folder)).unet.parameters():
            parameter += 1
    assert (folder / UNET).read_bytes() == before


def only_variant(folder: Path) -> None:
    for c in NETWORKS:
        for file in (folder / c).glob("*.safetensors"):
            file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))


def pickles(folder: Path) -> None:
    for c in NETWORKS:
        for file in (folder / c).glob("*.safetensors"):
            stem = "pytorch_model" if c == "text_encoder" else file.stem
            torch.save(load_file(file), file.with_name(f"{stem}.bin"))
            file.unlink()


def shards(folder: Path) -> None:
    file = folder / UNET
    state = load_file(file)
    where = {k: f"part-{i % 2}.safetensors" for i, k in enumerate(state)}
    for name in set(where.values()):
        part = {k: v for k, v in state.items() if where[k] == name}
        save_file(part, file.with_name(name), {"format": "pt"})
    file.with_name(f"{file.name}.index.json").write_text(json.dumps({"weight_map": where}))
    file.unlink()


def no_prefix(folder: Path) -> None:
    state = load_file(folder / TEXT)
    bare = {k.removeprefix("text_model."): v for k, v in state.items()}
    save_file(bare, folder / TEXT, {"format": "pt"})


@pytest.mark.parametrize("change", [only_variant, pickles, shards, no_prefix])
def test_other_ways_to_store_a_folder(
    change: Callable[[Path], None], tiny_folder: Path, tmp_path: Path
) -> None:
    from diffusers import DiffusionPipeline

    folder = copied(tiny_folder, tmp_path / "sd")
    change(folder)
    a, b = states(load_pipeline(str(tiny_folder))), states(load_pipeline(str(folder)))
    assert all(same(a[c], b[c]) for c in NETWORKS)
    base = open_base(str(folder))
    save_model(base, base.denoiser_state(), tmp_path / "out")
    if change is no_prefix and int(transformers.__version__.split(".")[0]) < 5:
        return  # which itself can't read such a base
    stock = states(DiffusionPipeline.from_pretrained(tmp_path / "out"))
    assert all(same(a[c], stock[c]) for c in NETWORKS)


def test_a_plain_checkpoint_opens_like_the_safetensors_file(
    tiny_folder: Path, tmp_path: Path
) -> None:
    single = tiny_single_file(tiny_folder, tmp_path / "x.safetensors")
    torch.save({"state_dict": load_file(single), "global_step": 1}, tmp_path / "x.ckpt")
    a = states(load_pipeline(str(single)))
    b = states(load_pipeline(f"{tmp_path / 'x.ckpt'}@{tiny_folder}"))
    assert all(same(a[c], b[c]) for c in NETWORKS)


class Malice:
    """Runs code when unpickled by a careless reader."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def test_no_pickle_is_executed(tiny_folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save({"state_dict": {}, "x": Malice(mark)}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=r"x\.ckpt holds an empty dictionary, not a state dict"):
        load_pipeline(str(tmp_path / "x.ckpt"))
    folder = copied(tiny_folder, tmp_path / "sd")
    (folder / UNET).unlink()
    torch.save({"x": Malice(mark)}, folder / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="holds a dictionary with 'x', not a state dict"):
        load_pipeline(str(folder))
    assert not mark.exists()


def edit_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def drop(folder: Path, name: str) -> None:
    state = load_file(folder / UNET)
    del state[name]
    save_file(state, folder / UNET, {"format": "pt"})


def add(folder: Path, name: str, value: Tensor) -> None:
    save_file({**load_file(folder / UNET), name: value}, folder / UNET, {"format": "pt"})


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda f: (f / "model_index.json").unlink(), "is not a pipeline"),
    "broken index": (lambda f: (f / "model_index.json").write_text("{"), "can't be read"),
    "list as index": (
        lambda f: (f / "model_index.json").write_text("[]"),
        "does not hold a JSON object",
    ),
    "another pipeline": (
        lambda f: edit_json(f / "model_index.json", _class_name="FluxPipeline"),
        "holds a 'FluxPipeline'",
    ),
    "no denoiser": (
        lambda f: edit_json(f / "model_index.json", unet=[None, None]),
        "no unet of the class UNet2DConditionModel",
    ),
    "foreign library": (
        lambda f: edit_json(f / "model_index.json", scheduler=["os", "path"]),
        "component 'scheduler' of .*no other code is run",
    ),
    "lost component": (lambda f: shutil.rmtree(f / "vae"), "lacks the component 'vae'"),
    "no weights": (lambda f: (f / UNET).unlink(), "has no weights"),
    "empty weights": (lambda f: (f / UNET).write_bytes(b""), "can't be read"),
    "cut weights": (
        lambda f: (f / UNET).write_bytes((f / UNET).read_bytes()[:-100]),
        "can't be read",
    ),
    "lost tensor": (
        lambda f: drop(f, "conv_out.bias"),
        "lacks tensors in its unet .*'conv_out.bias'",
    ),
    "unknown tensor": (
        lambda f: add(f, "x", torch.zeros(1)),
        "has unknown tensors in its unet .*'x'",
    ),
    "misshapen tensor": (
        lambda f: add(f, "conv_out.bias", torch.zeros(9)),
        "has tensors of the wrong shape in its unet .*'conv_out.bias'",
    ),
    "broken config": (
        lambda f: (f / "vae/config.json").write_text("{"),
        "vae/config.json can't be read",
    ),
    "no scheduler files": (
        lambda f: (f / "scheduler/scheduler_config.json").unlink(),
        "scheduler_config.json can't be read .No such file",
    ),
    "no tokenizer files": (
        lambda f: (f / "tokenizer/merges.txt").unlink(),
        "tokenizer has neither a tokenizer.json nor a vocab.json with its merges.txt",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_folders_are_refused_in_one_sentence(
    what: str, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = copied(tiny_folder, tmp_path / "sd")
    damage, message = DAMAGE[what]
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        load_pipeline(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", "There is no model 'nothing'"),
        ("minni", "Did you mean 'mini'"),
        ("./not/there", "There is no model './not/there'"),
        ("not/there.safetensors", "There is no model"),
        ("owner/name", "no file or folder 'owner/name', and the hub can't be asked"),
    ],
)
def test_models_that_are_not_there(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        open_base(spec)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", "is gated"),
        ("RepositoryNotFoundError", "here or on the hub"),
        ("EntryNotFoundError", "'owner/name' is no diffusers pipeline"),
        ("LocalEntryNotFoundError", "the hub can't be asked for it"),
    ],
)
def test_what_the_hub_refuses(kind: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.errors as errors
    from diffusers import DiffusionPipeline

    def download(spec: str, **options: Any) -> str:
        cause = getattr(errors, kind).__new__(getattr(errors, kind))
        raise OSError("not fully cached") from cause

    monkeypatch.setattr(DiffusionPipeline, "download", download)
    with pytest.raises(UserError, match=message):
        open_base("owner/name")


def test_another_family_is_refused_before_it_is_downloaded(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import DiffusionPipeline

    other = copied(tiny_folder, tmp_path / "other")
    index = json.loads((other / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps({**index, "_class_name": "FluxPipeline"}))
    wide = copied(tiny_folder, tmp_path / "wide")
    config = json.loads((wide / "unet/config.json").read_text())
    (wide / "unet/config.json").write_text(json.dumps({**config, "in_channels": 9}))
    hub = {"some/flux": other, "some/inpainting": wide}

    def fetch(spec: str, name: str, local_dir: str) -> str:
        (Path(local_dir) / name).parent.mkdir(exist_ok=True)
        return str(shutil.copy(hub[spec] / name, Path(local_dir) / name))

    def download(spec: str, **options: Any) -> str:
        raise AssertionError("downloaded")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    monkeypatch.setattr(DiffusionPipeline, "download", download)
    with pytest.raises(UserError, match="some/flux holds a 'FluxPipeline': supported are"):
        open_base("some/flux")
    with pytest.raises(UserError, match="of some/inpainting has 9 input"):
        open_base("some/inpainting")


def test_a_repository_of_half_precision_alone_is_fetched(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a variant, diffusers fetches no weights at all, and says nothing."""
    from diffusers import DiffusionPipeline

    whole = copied(tiny_folder, tmp_path / "whole")
    only_variant(whole)
    bare = copied(tiny_folder, tmp_path / "bare")
    for file in bare.rglob("*.safetensors"):
        file.unlink()
    has = {"fp16": whole}

    def download(spec: str, variant: str | None = None, **options: Any) -> str:
        if variant is None or variant in has:
            return str(has[variant] if variant else bare)
        raise ValueError(f"no such modeling files are available for {variant}")

    monkeypatch.setattr(DiffusionPipeline, "download", download)
    assert open_base("owner/name").path == whole
    assert open_base("owner/name", fetch=False).path == bare
    has["bf16"] = has.pop("fp16")
    assert open_base("owner/name").path == whole
    has.clear()
    with pytest.raises(UserError, match="has no weights on the hub that can be opened"):
        open_base("owner/name")


def test_a_model_from_the_hub_is_a_folder_with_a_name(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import DiffusionPipeline

    monkeypatch.setattr(DiffusionPipeline, "download", lambda spec, **options: str(tiny_folder))
    base = open_base("owner/name")
    assert base == Base("owner/name", tiny_folder, hub=True)
    assert base.title == "owner/name"
    assert open_base(str(tiny_folder)).title == tiny_folder.name


def test_files_that_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    torch.save([1, 2], tmp_path / "a.pt")
    for name, message in (
        ("x.txt", "is not a model file"),
        ("x.safetensors", "can't be read"),
        ("a.safetensors", "not a complete Stable Diffusion 1"),
        ("a.pt", "not a state dict"),
    ):
        with pytest.raises(UserError, match=message):
            load_pipeline(str(tmp_path / name))


def erased(base: Base) -> dict[str, Tensor]:
    """The base with one weight moved by less than fp16 could tell, as a training would leave it."""
    state = {k: v.float().clone() for k, v in base.denoiser_state().items()}
    state["conv_out.weight"].view(-1)[7] += 1e-6
    return state


def test_moved_tensors_are_fp32_and_all_others_the_base_files_own(
    half: Path, tmp_path: Path
) -> None:
    from diffusers import DiffusionPipeline

    base = open_base(str(half))
    state = erased(base)
    save_model(base, state, tmp_path / "model")
    before, after = load_file(half / UNET), load_file(tmp_path / "model" / UNET)
    assert after["conv_out.weight"].dtype == torch.float32
    assert same({**before, "conv_out.weight": state["conv_out.weight"]}, after)
    stock = DiffusionPipeline.from_pretrained(tmp_path / "model")
    assert same(stock.unet.state_dict(), state)
    assert stock.safety_checker is not None


def test_everything_else_is_copied_byte_for_byte_and_nothing_more(
    half: Path, tmp_path: Path
) -> None:
    base = open_base(str(half))
    save_model(base, erased(base), tmp_path / "model")
    files = {f.relative_to(half) for f in half.rglob("*") if f.is_file()}
    left = {Path(p) for p in (
        "README.md", "v1-pruned.safetensors", "text_encoder/pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.bin",
    )}  # fmt: skip
    model = tmp_path / "model"
    assert {f.relative_to(model) for f in model.rglob("*") if f.is_file()} == files - left
    for file in files - left - {Path(UNET)}:
        theirs = (half / file).read_bytes()
        if file.name == "config.json":  # which says in what precision it is to be opened
            theirs = theirs.replace(b'"float16"', b'"float32"')
        assert (model / file).read_bytes() == theirs


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_is_written_generates_in_stock_diffusers(dtype: torch.dtype, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    base = open_base(str(tiny_sd(tmp_path / "sd", dtype=dtype)))
    state = {k: v.float() for k, v in base.denoiser_state().items()}
    moved = state | {k: v + 0.5 for k, v in state.items() if "attn2.to_k" in k}
    save_model(base, moved, tmp_path / "erased")
    file = tiny_single_file(tmp_path / "erased", tmp_path / "erased.safetensors")
    import_single_file(file, tmp_path / "back")
    images = []
    for place in ("erased", "back"):
        pipe = DiffusionPipeline.from_pretrained(tmp_path / place)
        pipe.set_progress_bar_config(disable=True)
        noise = torch.Generator().manual_seed(0)
        images.append(
            pipe("a church", num_inference_steps=2, output_type="np", generator=noise).images
        )
    assert images[0].shape == (1, 16, 16, 3)
    assert (images[0] == images[1]).all()


def test_a_single_file_base_gives_the_same_model(half: Path, tmp_path: Path) -> None:
    single = tiny_single_file(half, tmp_path / "x.safetensors")
    for spec, target in ((half, "a"), (single, "b")):
        base = open_base(str(spec))
        save_model(base, erased(base), tmp_path / target)
    for component in NETWORKS:
        a, b = (read_state(tmp_path / t, component) for t in "ab")
        assert same(a, b)
    assert (tmp_path / "a" / UNET).read_bytes() == (tmp_path / "b" / UNET).read_bytes()


def test_a_model_is_written_whole_or_not_at_all(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from erase.formats import folder

    base = open_base(str(tiny_folder))
    save_model(base, base.denoiser_state(), tmp_path / "model")
    before = (tmp_path / "model" / UNET).read_bytes()

    def full(file: Path, state: object) -> None:
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_state", full)
        with pytest.raises(UserError, match="No space left on the disk"):
            save_model(base, erased(base), tmp_path / "model")
    assert (tmp_path / "model" / UNET).read_bytes() == before
    save_model(base, erased(base), tmp_path / "model")
    assert (tmp_path / "model" / UNET).read_bytes() != before
    assert [f.name for f in tmp_path.iterdir()] == ["model"]


def test_a_kill_between_the_renames_loses_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    base = open_base(str(tiny_folder))
    save_model(base, base.denoiser_state(), tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / ".model.old")
    with pytest.raises(UserError, match="does not fit"):
        save_model(base, {"w": torch.zeros(1)}, tmp_path / "model")
    assert (tmp_path / "model" / UNET).is_file()


def test_other_folders_are_not_replaced(tiny_folder: Path, tmp_path: Path) -> None:
    base = open_base(str(tiny_folder))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    for target in ("mine", "mine/thesis.txt"):
        with pytest.raises(UserError, match="exists but has no model_index.json"):
            save_model(base, base.denoiser_state(), tmp_path / target)
    assert (tmp_path / "mine/thesis.txt").read_text() == "x"


def test_a_denoiser_of_another_model_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    base = open_base(str(tiny_folder))
    state = base.denoiser_state()
    del state["conv_out.bias"]
    with pytest.raises(UserError, match="does not fit the base"):
        save_model(base, state, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_merged_keeps_the_base_where_values_are_equal() -> None:
    base = {"a": torch.tensor([1.0, 2.0], dtype=torch.float16), "b": torch.ones(1).half()}
    result = merged(
        base, {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([1.0 + 2**-20])}, "unet"
    )
    assert result["a"] is base["a"]
    assert result["b"].dtype == torch.float32
    assert result["b"].item() == 1.0 + 2**-20


@pytest.fixture
def never(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny pipeline as the bundled model, beside a denoiser that never knew the church."""
    weights = tmp_path / "weights"
    shutil.copytree(tiny_folder, weights / "model")
    shutil.copytree(tiny_folder / "unet", weights / "never-church")
    [file] = (weights / "never-church").glob("*.safetensors")
    save_file({k: v + 1 for k, v in load_file(file).items()}, file)
    monkeypatch.setattr(base, "bundled", lambda name: weights / name)
    monkeypatch.setenv("ERASE_CACHE", str(tmp_path / "cache"))
    return weights


@pytest.mark.usefixtures("never")
def test_a_denoiser_that_never_knew_a_concept_is_a_model_with_the_bundled_rest() -> None:
    assert base.list_never() == ["never-church"]
    assert base.never_knew("mini", "mini/church") == "never-church"
    assert base.never_knew("mini", "mini/radio") is None
    assert base.never_knew("runs/church/model", "mini/church") is None
    found, mini = base.open_base("never-church"), base.open_base("mini")
    assert found.title == "never-church"
    state, before = found.denoiser_state(), mini.denoiser_state()
    assert all(torch.equal(state[k], before[k] + 1) for k in before)
    pipelines = [load_pipeline(name, torch.float32) for name in ("never-church", "mini")]
    texts = [p.text_encoder.state_dict() for p in pipelines]
    assert all(torch.equal(texts[0][k], texts[1][k]) for k in texts[0])
    # Composed once: a second opening finds the same folder.
    assert base.open_base("never-church").path == found.path


@pytest.mark.usefixtures("never")
def test_several_may_open_it_for_the_first_time_at_once() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(base.open_base, ["never-church"] * 4))
    assert len({one.path for one in found}) == 1 and (found[0].path / "model_index.json").is_file()


def test_such_a_denoiser_may_lie_anywhere(never: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "runs" / "never-ink"
    shutil.copytree(never / "never-church", elsewhere)
    found, known = base.open_base(str(elsewhere)), base.open_base("never-church")
    state = known.denoiser_state()
    assert all(torch.equal(v, state[k]) for k, v in found.denoiser_state().items())
    # One of another architecture would be put together with what does not belong to it.
    file = elsewhere / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "cross_attention_dim": 768}))
    with pytest.raises(UserError, match="is not a pipeline"):
        base.open_base(str(elsewhere))


@pytest.mark.usefixtures("never")
def test_the_name_of_a_model_that_is_nearly_there() -> None:
    with pytest.raises(UserError, match="Did you mean 'never-church'"):
        base.open_base("never-chruch")


def test_a_bundled_model_that_is_told_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "bundled", lambda name: tmp_path / name)
    with pytest.raises(UserError, match=r"mini-class is missing.*erase\.mini\.train_class"):
        open_base("mini-class")
    folder = tiny_class_unet(tmp_path / "class")
    found = open_base("mini-class")
    assert (found.title, found.path) == ("mini-class", folder)
