"""The command line as a user meets it: whole runs on tiny real pipelines, and every mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from erase.cli.main import main
from erase.cli.options import names
from erase.cli.parser import build_parser
from erase.cli.run import _run
from erase.recipes.recipe import as_dict, load_recipe
from erase.runs.folder import model_of
from erase.runtime.locks import alone_in

QUICK = (
    "--forget-images 4 --retain-images 4 --steps 2 --batch-size 2 --saliency-batch 2 "
    "--sampling-steps 2 --sampling-batch 4 --eval-forget 4 --eval-retain 4 --eval-general 2 "
    "--eval-empty 1 "
    "--lr 1e-3 --device cpu"
).split()
TASK = ["--concept", "a church", "--anchor", "a truck"]


def run(model: Path | str, out: Path, *more: str, command: str = "run") -> None:
    main([command, "--model", str(model), *TASK, "--out", str(out), *QUICK, *more])


def without(flag: str, argv: Sequence[str]) -> list[str]:
    """The arguments without a flag and its value."""
    at = list(argv).index(flag)
    return [*argv[:at], *argv[at + 2 :]]


def fails(capsys: pytest.CaptureFixture[str], argv: Sequence[str]) -> str:
    """Runs a command that must end with exit code 2 and one sentence."""
    with pytest.raises(SystemExit) as stop:
        main(list(argv))
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "church"
    run(tiny_folder, out)
    return out


def test_a_run_leaves_the_promised_folder(finished: Path) -> None:
    for name in ("run.json", "mask.safetensors", "train.jsonl", "report.json", "report.html"):
        assert (finished / name).is_file()
    for side, count in (("base", 11), ("base2", 6), ("erased", 11)):
        assert len(list((finished / "eval" / side).glob("*/*.png"))) == count
    assert not list(finished.rglob("*.part"))


def test_the_result_opens_in_stock_diffusers_and_moved_only_masked_weights(
    finished: Path, tiny_folder: Path
) -> None:
    from diffusers import DiffusionPipeline

    erased = DiffusionPipeline.from_pretrained(finished / "model").unet.state_dict()
    base = DiffusionPipeline.from_pretrained(tiny_folder).unet.state_dict()
    masks = load_file(finished / "mask.safetensors")
    assert set(masks) == set(base)
    moved = 0
    for name, value in base.items():
        bits = np.unpackbits(masks[name].numpy(), bitorder="little")[: value.numel()]
        inside = torch.from_numpy(bits).bool().view(value.shape)
        assert torch.equal(erased[name][~inside], value[~inside])
        moved += int((erased[name] != value).sum())
    assert moved > 0


def test_a_requirement_that_is_not_met_ends_with_exit_code_3(
    finished: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(tiny_folder, finished, "--require", "ua=0.5,ira=0")
    assert stop.value.code == 3
    said = capsys.readouterr()
    assert said.err.splitlines()[-2:] == [
        "erase: ua was not measured, but 0.5 or more is required.",
        "erase: ira was not measured, but 0 or more is required.",
    ]
    # The conclusion is told all the same, with its rules.
    assert "Nothing is concluded about erasing church" in said.out.replace("a church", "church")
    assert "Erased: the 95\u00a0% interval of UA lies above 90\u00a0%" in said.out


def test_mask_file_tells_shapes_and_provenance(finished: Path) -> None:
    with safe_open(finished / "mask.safetensors", "np") as file:
        facts = file.metadata()
    shapes, provenance = json.loads(facts["shapes"]), json.loads(facts["provenance"])
    total = sum(int(np.prod(s)) for s in shapes.values())
    packed = load_file(finished / "mask.safetensors")
    count = sum(int(np.unpackbits(t.numpy()).sum()) for t in packed.values())
    assert count == int(provenance["ratio"] * total)
    assert provenance["concept"] == "a church"


def test_report_says_not_measured_without_a_judge(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    for side in ("base", "erased"):
        assert report["summary"][side]["ua"] is None
    assert "not measured" in (finished / "report.html").read_text()


def test_running_again_does_nothing(finished: Path, tiny_folder: Path) -> None:
    files = {f: f.stat().st_mtime_ns for f in finished.rglob("*.png")}
    model = (finished / "model/unet").stat().st_mtime_ns
    run(tiny_folder, finished)
    assert files == {f: f.stat().st_mtime_ns for f in finished.rglob("*.png")}
    assert model == (finished / "model/unet").stat().st_mtime_ns


def test_changed_settings_are_refused_then_redone(
    finished: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import shutil

    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    argv = ["run", "--model", str(tiny_folder), *TASK, "--out", str(out), *QUICK]
    message = fails(capsys, [*argv, "--alpha", "0.1"])
    assert "alpha" in message
    assert "train, erased, eval" in message
    mask = (out / "mask.safetensors").stat().st_mtime_ns
    before = load_file(next((out / "model/unet").glob("*.safetensors")))
    main([*argv, "--alpha", "0.1", "--overwrite"])
    after = load_file(next((out / "model/unet").glob("*.safetensors")))
    assert mask == (out / "mask.safetensors").stat().st_mtime_ns
    assert any((before[k].float() != after[k].float()).any() for k in before)


def test_stages_one_by_one_equal_the_whole_run(
    finished: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "staged"
    run(tiny_folder, out, command="images")
    # What was given once is read from the run folder.
    for command in ("mask", "train", "generate", "eval"):
        main([command, "--out", str(out), "--device", "cpu"])
    for name in ("mask.safetensors", "train.jsonl"):
        if name == "train.jsonl":
            a, b = ([json.loads(x)["loss"] for x in (f / name).read_text().splitlines()]
                    for f in (finished, out))  # fmt: skip
            assert a == b
        else:
            assert (out / name).read_bytes() == (finished / name).read_bytes()
    for image in sorted(finished.glob("eval/erased/*/*.png")):
        assert (out / image.relative_to(finished)).read_bytes() == image.read_bytes()


def test_a_single_file_goes_through_and_exports(
    tiny_folder: Path, finished: Path, tmp_path: Path
) -> None:
    single = tmp_path / "base.safetensors"
    main(["export", str(tiny_folder), str(single)])
    out = tmp_path / "run"
    run(single, out)
    a = load_file(next((finished / "model/unet").glob("*.safetensors")))
    b = load_file(next((out / "model/unet").glob("*.safetensors")))
    assert set(a) == set(b)
    assert all(torch.equal(a[k], b[k]) for k in a)
    back = tmp_path / "erased.safetensors"
    main(["export", str(out / "model"), str(back)])
    assert any(k.startswith("model.diffusion_model.input_blocks.") for k in load_file(back))


def test_own_image_folders(tiny_folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for i, mode in enumerate(("RGB", "L", "RGBA", "P")):
        Image.effect_noise((20, 30), 90).convert(mode).save(own / f"{i}.png")
    out = tmp_path / "run"
    argv = ["run", "--model", str(tiny_folder), *TASK, "--out", str(out)]
    argv += [*without("--forget-images", QUICK), "--forget-folder", str(own)]
    main([*argv, "--stages", "images,mask,train"])
    assert (out / "model/model_index.json").exists()
    assert not list((out / "images/forget").glob("*.png"))


def test_retained_images_need_captions(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for i in range(3):
        Image.effect_noise((16, 16), 90).save(own / f"{i}.png")
        (own / f"{i}.txt").write_text(f"noise {i}")
    (own / "2.txt").unlink()
    argv = ["run", "--model", str(tiny_folder), *TASK, "--out", str(tmp_path / "r")]
    argv += [*without("--retain-images", QUICK), "--retain-folder", str(own)]
    argv += ["--stages", "images,mask,train"]
    assert "2.png has no caption" in fails(capsys, argv)
    (own / "metadata.jsonl").write_text('{"file_name": "2.png", "text": "noise two"}')
    main(argv)
    rows = [json.loads(x) for x in (tmp_path / "r/images/retain/manifest.jsonl").open()]
    assert [r["prompt"] for r in rows] == ["noise 0", "noise 1", "noise two"]


def test_quick_look(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "look"
    argv = ["generate", "--model", str(tiny_folder), "--prompt", "a church", "--out", str(out)]
    argv += ["--count", "2", "--sampling-steps", "2", "--device", "cpu"]
    main(argv)
    assert sorted(f.name for f in out.glob("*.*g")) == ["0.png", "1.png"]
    first = (out / "0.png").read_bytes()
    # Another prompt is numbered on, with the same seeds; the same prompt makes the same images.
    capsys.readouterr()
    main(argv)
    assert capsys.readouterr().out == f"2 images in {out} (seeds 0 to 1): 2.png to 3.png\n"
    assert (out / "2.png").read_bytes() == first == (out / "0.png").read_bytes()
    main([*argv, "--seed", "7", "--count", "1"])
    main([*argv, "--seed", "1", "--overwrite", "--count", "1"])
    assert sorted(f.name for f in out.glob("*.*g")) == [f"{n}.png" for n in (0, 1, 2, 3, 7)]
    with alone_in(out):
        code = "from erase.cli.main import main; import sys; main(sys.argv[1:])"
        told = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True)
    assert told.returncode == 2 and "Another process is writing" in told.stderr


def test_a_run_folder_stands_for_its_model(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--prompt", "a hut", "--count", "1", "--sampling-steps", "2", "--device", "cpu"]
    for name, model in (("run", finished), ("model", finished / "model")):
        main(["generate", "--model", str(model), "--out", str(tmp_path / name), *more])
    assert (tmp_path / "run/0.png").read_bytes() == (tmp_path / "model/0.png").read_bytes()
    assert f"Using {finished / 'model'}" in capsys.readouterr().err
    main(["export", str(finished), str(tmp_path / "one.safetensors")])
    assert (tmp_path / "one.safetensors").is_file()
    # As the base of another run it is the erased model.
    options = build_parser().parse_args(["run", "--model", str(finished), "--concept", "x"])
    assert model_of(options.run.model) == str(finished / "model")
    (tmp_path / "half").mkdir()
    (tmp_path / "half/run.json").write_text("{}")
    argv = ["generate", "--model", str(tmp_path / "half"), "--prompt", "x"]
    assert "has no model yet" in fails(capsys, argv)


def test_every_prompt_of_a_set(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = "case_number,prompt,sd_seed,sd_guidance_scale,sd_image_width,sd_image_height"
    rows = ["3,a cat,7,2.0,16,24", "5,a dog,8,,,", "9,an owl,7,2.0,16,24"]
    (tmp_path / "set.csv").write_text("\n".join([columns, *rows]) + "\n")
    out = tmp_path / "images"
    argv = ["generate", "--model", str(tiny_folder), "--set", str(tmp_path / "set.csv")]
    argv += ["--count", "2", "--sampling-steps", "2", "--out", str(out), "--device", "cpu"]
    main(argv)
    assert "6 images" in capsys.readouterr().out
    from erase.images.files import read_image, read_manifest

    found = {r["file"]: r for r in read_manifest(out)}
    assert set(found) == {f"0000{case}_{k}.png" for case in (3, 5, 9) for k in (0, 1)}
    assert (found["00003_1.png"]["seed"], found["00003_1.png"]["guidance"]) == (8, 2.0)
    assert read_image(out / "00003_0.png").shape == (24, 16, 3)
    assert read_image(out / "00005_0.png").shape[0] == read_image(out / "00005_0.png").shape[1]
    stamp = (out / "00003_0.png").stat().st_mtime_ns
    main(argv)
    assert (out / "00003_0.png").stat().st_mtime_ns == stamp
    argv[argv.index("--sampling-steps") + 1] = "3"
    assert "another run" in fails(capsys, argv)
    (out / "notes.txt").write_text("mine")
    main([*argv, "--overwrite"])
    assert (out / "notes.txt").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/plan.json").write_text('{"chapters": 5}')
    elsewhere = [*argv, "--out", str(tmp_path / "thesis"), "--overwrite"]
    assert "holds other files" in fails(capsys, elsewhere)
    assert "--seed has no effect" in fails(capsys, [*argv, "--seed", "1"])
    assert "can't be combined" in fails(capsys, [*argv, "--prompt", "x"])
    assert "--count has no effect" in fails(capsys, ["generate", "--concept", "x", "--count", "1"])


@pytest.mark.parametrize("flag", ["judge", "anchor", "features", "clip"])
def test_what_no_metric_reads_is_refused(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["eval", "--images", str(tmp_path / "a"), "--against", str(tmp_path / "b")]
    said = fails(capsys, [*argv, "--metrics", "lpips", "--lpips", "mini", f"--{flag}", "mini"])
    assert f"--{flag} has no effect here" in said
    for more in (["--nudity.threshold", "0.9"], ["--reference", str(tmp_path)]):
        said = fails(capsys, [*argv, "--metrics", "lpips", "--lpips", "mini", *more])
        assert f"{more[0]} has no effect here" in said


def test_images_of_another_model_are_not_taken_for_this_ones(
    tiny_folder: Path, tiny_v_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set.csv").write_text("prompt\na cat\n")
    argv = ["generate", "--set", str(tmp_path / "set.csv"), "--sampling-steps", "2"]
    argv += ["--device", "cpu", "--out", str(tmp_path / "images"), "--model"]
    main([*argv, str(tiny_folder)])
    assert "another run" in fails(capsys, [*argv, str(tiny_v_folder)])


def test_images_of_a_runs_model_go_by_the_name_of_the_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("set.csv").write_text("prompt\na cat\n")
    argv = ["generate", "--model", str(finished), "--set", "set.csv", "--sampling-steps", "1"]
    main([*argv, "--device", "cpu"])
    assert len(list(Path(f"runs/{finished.name}-set").glob("*.png"))) == 1


def test_dry_run_writes_nothing(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tiny_folder, tmp_path / "none", "--dry-run")
    printed = capsys.readouterr().out
    assert not (tmp_path / "none").exists()
    for word in ("images", "mask", "train", "eval", "alpha = 0.5", "disk", "memory    about"):
        assert word in printed
    # Nothing is downloaded, and a single file is as good as a folder.
    run(Path("some/hub-id"), tmp_path / "none", "--dry-run")
    printed = capsys.readouterr().out
    assert "not downloaded yet" in printed and "memory    about" not in printed


def test_a_dry_run_tells_what_overwrite_would_discard(
    finished: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    own = ["--steps", "3", "--overwrite", "--dry-run"]
    run(tiny_folder, tmp_path / "run", *own)
    printed = capsys.readouterr().out
    assert "already finished: images, mask, base" in printed
    assert "discarded, since inputs changed: train, erased, eval" in printed


def test_images_that_can_not_be_read_cost_no_finished_model(
    finished: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, own = tmp_path / "run", tmp_path / "own"
    shutil.copytree(finished, out)
    own.mkdir()
    Image.effect_noise((20, 30), 90).save(own / "0.png")
    (own / "1.png").write_text("no image")
    argv = ["run", "--model", str(tiny_folder), *TASK, "--out", str(out), "--overwrite"]
    argv += [*without("--forget-images", QUICK), "--forget-folder", str(own)]
    for more in (["--dry-run"], []):
        assert "1.png can't be read as an image" in fails(capsys, [*argv, *more])
    assert (out / "model/model_index.json").exists() and (out / "report.json").exists()


def test_attacks_that_nothing_could_judge_are_refused_before_the_run(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["run", "--model", str(tiny_folder), *TASK, "--out", str(tmp_path / "run"), *QUICK]
    assert "comes back can't be judged" in fails(capsys, [*argv, "--attacks", "words"])
    assert not (tmp_path / "run").exists()


def test_a_setting_without_effect_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["run", "--concept", "church", "--mask", "none", "--ratio", "0.3", "--out"]
    assert "--ratio has no effect" in fails(capsys, [*argv, str(tmp_path / "r")])
    argv = ["run", "--concept", "church", "--recipe", "salun-random-mask", "--out"]
    argv += [str(tmp_path / "r"), "--saliency-guidance", "1"]
    assert "--saliency-guidance has no effect" in fails(capsys, argv)
    # ESD trains on noise, gradient ascent on the concept alone where nothing else weighs.
    argv = ["run", "--concept", "church", "--out", str(tmp_path / "r"), "--recipe"]
    for folder in ("--forget-folder", "--retain-folder"):
        text = fails(capsys, [*argv, "esd-x", folder, str(tmp_path)])
        assert f"{folder} has no effect: esd-x-mini does not train on" in text
    assert "--forget-images has no effect" in fails(
        capsys, [*argv, "esd-x", "--forget-images", "5"]
    )
    assert "--retain-images has no effect" in fails(capsys, [*argv, "ga", "--retain-images", "5"])
    for flag in ("--guidance-scale", "--x-t-guidance"):
        assert "must be >= 1" in fails(capsys, [*argv, "esd-x", flag, "0.5"])


def test_a_method_stands_for_its_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["run", "--concept", "church", "--out", str(tmp_path / "r"), "--stages", "images"]
    argv += ["--dry-run", "--method"]
    main([*argv, "uce"])
    assert "uce-mini" in capsys.readouterr().out
    main([*argv, "salun"])
    assert "salun-mini" in capsys.readouterr().out
    text = fails(capsys, [*argv, "esd"])
    assert "several recipes for 'esd': add --recipe esd-2025-all or" in text


def test_folders_of_an_earlier_recipe_are_not_forced_on_another(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """They were not given now, so that nobody could leave them out."""
    out, photographs = tmp_path / "r", tmp_path / "p"
    photographs.mkdir()
    argv = ["run", "--model", str(tiny_folder), "--concept", "a church", "--anchor", "a hut"]
    argv += ["--out", str(out)]
    parse = build_parser().parse_args
    out.mkdir()
    given = {"concept": "a church", "anchor": "a hut", "forget_folder": str(photographs)}
    facts = {"given": given, "recipe": as_dict(load_recipe("salun-sd")), "concept": "a church"}
    (out / "run.json").write_text(json.dumps({**facts, "model": {"source": str(tiny_folder)}}))
    assert _run(parse(argv).run)[0].sources.forget_folder == photographs
    assert _run(parse([*argv, "--recipe", "esd-x"]).run)[0].sources.forget_folder is None


@pytest.mark.parametrize("seed", ["-1", "9223372036854775807", "99999999999999999999"])
def test_seeds_out_of_range(
    tiny_folder: Path, tmp_path: Path, seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["generate", "--model", str(tiny_folder), "--prompt", "x", "--count", "2"]
    out = ["--out", str(tmp_path / "o"), f"--seed={seed}"]
    assert "is out of range" in fails(capsys, [*argv, *out])


def test_a_quick_look_takes_what_makes_images_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["generate", "--prompt", "x", "--out", str(tmp_path / "o")]
    for flag, value in (("--lr", "3"), ("--nudity.classes", "esd9"), ("--judge", "mini")):
        assert f"{flag} has no effect with --prompt" in fails(capsys, [*argv, flag, value])
    assert "1000 is not below" in fails(capsys, [*argv, "--sampling-steps", "1000"])


def test_more_steps_than_the_model_has(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["run", "--model", str(tiny_folder), "--concept", "a church", "--out"]
    argv += [str(tmp_path / "r"), "--recipe", "esd-x"]
    for flag in ("--sampling-steps", "--x-t-steps"):
        text = fails(capsys, [*argv, flag, "1000"])
        assert f"{flag} 1000 is not below the model's 1000 timesteps" in text
    assert not (tmp_path / "r" / "eval").exists()


def test_all_with_an_anchor_leaves_the_anchor_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "all")
    argv = ["run", "--concept", "all", "--anchor", "truck", "--stages", "images", "--dry-run"]
    main([*argv, "--out", out])
    printed = capsys.readouterr().out
    assert "mini/church -> mini/truck" in printed
    assert "mini/noto -> mini/twemoji" in printed
    assert "mini/truck -> mini/" in printed and "mini/truck -> mini/truck" not in printed


def test_output_that_nobody_reads_to_the_end_is_no_mistake(tmp_path: Path) -> None:
    argv = ["run", "--concept", "church", "--out", str(tmp_path / "r"), "--stages", "images"]
    argv += ["--dry-run"]
    with subprocess.Popen(
        [sys.executable, "-m", "erase", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        said = process.stderr.read().decode()
    assert process.returncode == 1
    # On some machines a library has a word of its own at import: the same as in a run that is read.
    whole = subprocess.run([sys.executable, "-m", "erase", *argv], capture_output=True, text=True)
    assert whole.returncode == 0
    assert said == whole.stderr


def test_names_with_commas_stand_in_quotes() -> None:
    assert names(['church, "a cat, asleep",radio,']) == ["church", "a cat, asleep", "radio"]


MISTAKES = [
    (["--concept", "mini/churhc"], "mini/church"),
    (["--recipe", "salun-minni"], "salun-mini"),
    (["--method", "salunn"], "salun"),
    (["--ratio", "0"], "ratio"),
    (["--ratio", "1.5"], "ratio"),
    (["--ratio", "half"], "ratio"),
    (["--alpha", "-1"], "alpha"),
    (["--steps", "0"], "steps"),
    (["--seed", "-1"], "seed"),
    (["--retain", "everyda"], "everyday"),
    (["--forget-folder", "nowhere"], "--forget-images has no effect beside --forget-folder"),
    (["--stages", "images,maks"], "mask"),
    (["--anchor", "a church"], "anchor"),
    (["--no-such-flag", "1"], "no-such-flag"),
]


@pytest.mark.parametrize(("wrong", "named"), MISTAKES, ids=lambda v: str(v)[:40])
def test_mistakes_are_one_sentence_and_leave_nothing(
    wrong: list[str],
    named: str,
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["run", "--model", str(tiny_folder), *TASK, "--out", str(tmp_path / "r"), *QUICK]
    assert named in fails(capsys, [*argv, *wrong])
    assert not (tmp_path / "r" / "run.json").exists()


def test_models_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    torch.save({"state": Path("x")}, tmp_path / "x.ckpt")
    for model in ("empty", "x.safetensors", "x.ckpt", "missing.safetensors"):
        argv = ["run", "--model", str(tmp_path / model), *TASK, "--out", str(tmp_path / "r")]
        assert model in fails(capsys, argv)


def test_no_anchor_is_refused(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["run", "--model", str(tiny_folder), "--concept", "a church", "--out"]
    assert "--anchor" in fails(capsys, [*argv, str(tmp_path / "r")])


def test_mask_of_another_model(
    finished: Path, tiny_folder: Path, tiny_v_folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    import shutil

    run(tiny_v_folder, tmp_path / "v", "--stages", "images,mask")
    shutil.copy(finished / "mask.safetensors", tmp_path / "v/mask.safetensors")
    message = fails(capsys, ["train", "--out", str(tmp_path / "v"), "--device", "cpu"])
    assert "mask" in message


def test_truncated_image_in_own_folder(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    Image.effect_noise((64, 64), 90).save(own / "bad.png")
    (own / "bad.png").write_bytes((own / "bad.png").read_bytes()[:300])
    argv = ["run", "--model", str(tiny_folder), *TASK, "--out", str(tmp_path / "r")]
    argv += without("--forget-images", QUICK)
    assert "bad.png" in fails(capsys, [*argv, "--forget-folder", str(own)])


def test_a_short_name_never_brings_a_recipe_of_days(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", str(tiny_folder), "--out", str(tmp_path / "r")]
    for argv in (
        ["run", "--concept", "church", *model],
        ["compare", "--recipes", "uce", "--concepts", "church", *model],
        ["tune", "--recipe", "salun-sd", "--concepts", "church", *model],
    ):
        assert "write imagenette/church for that" in fails(capsys, argv)


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list"])
    printed = capsys.readouterr().out
    for name in ("salun", "classifier", "mini/church", "imagenette/church", "everyday",
                 "salun-sd14-nudity"):  # fmt: skip
        assert name in printed


def test_help_answers_at_once_with_units_and_ranges() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "erase", "run", "--help-all"], capture_output=True, text=True
    )
    assert done.returncode == 0
    for word in ("--ratio", "--alpha", "px", "> 0 and <= 1", "default"):
        assert word in " ".join(done.stdout.split())
    check = (
        "import sys, erase.cli.main; erase.cli.main.build_parser(); print('torch' in sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert loaded.stdout.strip() == "False"


def test_a_full_device_is_one_sentence() -> None:
    import torch

    from erase.runtime.devices import memory_told
    from erase.runtime.errors import UserError

    with pytest.raises(UserError, match="memory is full .* add --low-memory"), memory_told():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with pytest.raises(RuntimeError, match="something else"), memory_told():
        raise RuntimeError("something else")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--low-memory"], True),
        (["--low-memory", "true"], True),
        (["--low-memory", "false"], False),
        ([], False),
    ],
)
def test_a_setting_that_is_on_or_off_needs_no_value(
    given: list[str], expected: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", "--concept", "church", "--stages", "images", "--dry-run", *given, "--seed", "1"])
    assert f"low_memory = {expected}" in capsys.readouterr().out


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_unknown_stages_and_nothing_to_retain_are_sentences(
    more: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    task = ["run", "--concept", "mini/church", "--out", str(tmp_path / "r"), *more]
    assert "There is no stage 'trian'" in fails(capsys, [*task, "--stages", "images,trian"])
    assert "Did you mean 'train'?" in fails(capsys, [*task, "--stages", "trian"])
    assert "eval_retain" in fails(capsys, [*task, "--eval-retain", "0"])


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"erase {version('erase-diffusion')}\n"


def test_a_corrected_judge_needs_no_overwrite(finished: Path, tmp_path: Path) -> None:
    """A report that was never finished is nothing to overwrite; one that was, is."""
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    facts = json.loads((copy / "run.json").read_text())
    given = dict(facts["stages"]["eval"]["inputs"])
    facts["stages"]["eval"] |= {"inputs": given | {"judge": ["timm:wrong"]}, "digest": "another"}
    (copy / "run.json").write_text(json.dumps(facts))
    argv = ["eval", "--out", str(copy), *TASK]
    with pytest.raises(SystemExit):
        main(argv)
    facts["stages"]["eval"]["finished"] = False
    (copy / "run.json").write_text(json.dumps(facts))
    main(argv)
    stages = json.loads((copy / "run.json").read_text())["stages"]
    assert stages["eval"]["finished"] and stages["eval"]["inputs"] == given
