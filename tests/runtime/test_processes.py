"""Two processes do what one does: the same noise, mask, weights and figures."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
import torch
from PIL import Image

from erase.cli.main import main
from erase.diffusion.losses import saliency_losses
from erase.diffusion.model import Diffusion
from erase.diffusion.scopes import scoped
from erase.formats.folder import read_state
from erase.methods import salun_robust
from erase.runs.make import make_run
from erase.runs.stages import training_data
from erase.runtime import processes
from erase.runtime.devices import accelerator
from erase.runtime.errors import UserError
from erase.runtime.seeding import generator
from erase.unlearn.mask import Mask, unpack
from erase.unlearn.saliency import accumulate

RUN = (
    "run --recipe salun-robust --concept mini/church --forget-images 6 --retain-images 6 --steps 3 "
    "--batch-size 4 --saliency-batch 2 --sampling-steps 2 --sampling-batch 2 --eval-forget 4 "
    "--eval-retain 9 --eval-neighbours 2 --eval-general 2 --eval-empty 2 --device cpu "
    # Adam would turn the rounding of a gradient near zero into a whole step.
    "--checkpoint-every 2 --optimizer sgd --lr 0.05 "
    # So that a process is given embeddings which another one moved, and one starts again; and what
    # relearns beside the training is the same everywhere.
    "--bank 3 --bank-restart 2 --relearn-lr 1e-4"
).split()


LONGEST = 500
"""Seconds that a command may take here."""


def settings(argv: list[str]) -> dict[str, str]:
    """The recipe values among a command's flags."""
    given = {k[2:].replace("-", "_"): v for k, v in zip(argv[1::2], argv[2::2], strict=True)}
    return {k: v for k, v in given.items() if k not in ("concept", "device", "recipe")}


def launch(
    argv: list[str], count: int = 2, kill_after: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command in processes that meet over gloo; all are killed if it takes too long, which
    is an error where nobody asked for it."""
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(count)]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    process = subprocess.Popen(
        [*launcher, "-m", "erase", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    family = psutil.Process(process.pid)
    try:
        said = process.communicate(timeout=kill_after or LONGEST)
    except subprocess.TimeoutExpired:
        for one in [*family.children(recursive=True), family]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        said = process.communicate()
        assert kill_after, f"took longer than {LONGEST} s: {said[1][-2000:]}"
    return subprocess.CompletedProcess(argv, process.returncode, *said)


def alone(argv: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-m", "erase", *argv]
    return subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=500)


@pytest.fixture(scope="module")
def runs(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    made = []
    for name, start in (("one", alone), ("two", launch)):
        out = folder / name
        done = start([*RUN, "--model", str(tiny_folder), "--out", str(out)])
        assert done.returncode == 0, done.stderr[-2000:]
        # One voice: the verdict is printed once.
        assert done.stdout.count("report.html") == 1
        made.append(out)
    return made[0], made[1]


def test_there_are_two(runs: tuple[Path, Path]) -> None:
    counts = [json.loads((run / "run.json").read_text())["processes"] for run in runs]
    assert counts == [1, 2]


def test_images_are_the_same(runs: tuple[Path, Path]) -> None:
    one, two = runs
    for file in sorted(one.glob("images/*/*.png")) + sorted(one.glob("eval/base*/*/*.png")):
        a, b = (np.asarray(Image.open(r / file.relative_to(one))).astype(int) for r in runs)
        assert np.abs(a - b).max() <= 1, file
    names = {f.relative_to(one) for f in one.glob("eval/*/*/*.png")}
    assert names == {f.relative_to(two) for f in two.glob("eval/*/*/*.png")}


def test_the_mask_is_the_same(runs: tuple[Path, Path], tiny_folder: Path) -> None:
    one, two = (Mask.load(run / "mask.safetensors") for run in runs)
    pairs = [
        [unpack(mask.bits[name], shape) for mask in (one, two)]
        for name, shape in one.shapes.items()
    ]
    total = sum(a.numel() for a, _ in pairs)
    assert sum(int((a != b).sum()) for a, b in pairs) <= max(1e-5 * total, 2)
    # They differ at the threshold alone, which is found here once more, with the saliency itself.
    more = settings(RUN)
    run = make_run(
        str(tiny_folder), "mini/church", recipe="salun-robust", overrides=more, out=runs[0]
    )
    diffusion = Diffusion.load(str(tiny_folder))
    data = training_data(run, diffusion)
    r = run.recipe
    # Over the bank's embeddings too.
    banked = replace(data, c=salun_robust.found(diffusion, data, r.config))
    how = {"w": r.saliency_guidance, "batch": r.saliency_batch, "seed": 0}
    losses = chain.from_iterable(saliency_losses(diffusion, own, **how) for own in (data, banked))
    saliency = accumulate(scoped(diffusion.denoiser, r.scope), losses)
    flat = torch.cat([saliency[name].flatten() for name in one.shapes if name in saliency])
    threshold = float(flat.sort(descending=True).values[one.count - 1])
    for mask in (one, two):
        for name, values in saliency.items():
            wrong = (values >= threshold) != mask.dense(name)
            assert bool(((values - threshold).abs() <= 1e-3 * threshold)[wrong].all()), name


def test_the_weights_are_those_of_one_process_at_the_same_batch(
    runs: tuple[Path, Path], tiny_folder: Path
) -> None:
    from safetensors.torch import load_file

    file = "model/unet/diffusion_pytorch_model.safetensors"
    one, two = (load_file(run / file) for run in runs)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6, msg=name)
    base = load_file(tiny_folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert any(not torch.equal(one[name], value) for name, value in base.items())
    losses = [
        [json.loads(line)["loss"] for line in (run / "train.jsonl").read_text().splitlines()]
        for run in runs
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_figures_are_the_same(runs: tuple[Path, Path]) -> None:
    """By the bundled judges, which tell even these pictures of noise apart."""
    one, two = (json.loads((run / "report.json").read_text()) for run in runs)
    assert len(one["became"]["base"]) > 1
    assert one["images"] == two["images"]
    for key in ("summary", "per_class", "became", "confusion"):
        assert one[key] == two[key], key
    for key in ("fidelity", "clip_score", "over_erasure"):
        assert one[key] is not None
        assert _numbers(one[key]) == pytest.approx(_numbers(two[key]), rel=1e-2, abs=1e-2), key


def _numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [n for v in value.values() for n in _numbers(v)]
    if isinstance(value, list):
        return [n for v in value for n in _numbers(v)]
    return [float(value)] if isinstance(value, int | float) else []


def test_any_folder_of_images_is_shared_out_too(runs: tuple[Path, Path], tmp_path: Path) -> None:
    sides = [runs[0] / "eval" / side / "mini" for side in ("erased", "base", "base2")]
    argv = ["eval", "--images", str(sides[0]), "--against", str(sides[1]), "--device", "cpu"]
    argv += ["--reference", str(sides[2]), "--concept", "mini/church"]
    argv += ["--nudity.classes", "FACE_FEMALE"]
    found = []
    for name, start in (("one", alone), ("two", launch)):
        done = start([*argv, "--out", str(tmp_path / name)])
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("report.html") == 1
        report = json.loads((tmp_path / name / "report.json").read_text())
        for volatile in ("created", "seconds", "command"):
            report.pop(volatile, None)
        found.append(report)
    assert [f["n"] for f in found[0]["folders"]] == [13, 13]
    one, two = (_numbers(report["folders"]) for report in found)
    assert len(one) > 30
    assert one == pytest.approx(two, rel=1e-2, abs=1e-2)
    assert sorted(found[0]) == sorted(found[1])


def test_every_file_has_one_writer(runs: tuple[Path, Path]) -> None:
    names = [{f.relative_to(r).as_posix() for f in r.rglob("*") if f.is_file()} for r in runs]
    assert not [name for name in names[1] if name.endswith(".part")]
    plain = [{n for n in own if not n.startswith("eval/cache/")} for own in names]
    assert plain[0] == plain[1]
    for manifest in runs[1].glob("*/*/manifest.jsonl"):
        rows = [json.loads(line) for line in manifest.read_text().splitlines()]
        assert len({row["file"] for row in rows}) == len(rows)
    rows = (runs[1] / "train.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2, 3]
    # What a process measured, no other did.
    lines = [
        json.loads(line)[0]
        for folder in (runs[1] / "eval" / "cache").iterdir()
        for file in folder.glob("*.jsonl")
        for line in (
            f"[{json.dumps(folder.name + row.split(chr(34))[1])}]"
            for row in file.read_text().splitlines()
        )
    ]
    assert len(set(lines)) == len(lines)


def test_a_finished_run_does_nothing_again_and_one_cut_short_goes_on(
    runs: tuple[Path, Path], tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    shutil.copytree(runs[1], out)
    argv = [*RUN, "--model", str(tiny_folder), "--out", str(out)]
    facts = json.loads((out / "run.json").read_text())
    for stage in ("train", "erased", "eval"):
        del facts["stages"][stage]
    (out / "run.json").write_text(json.dumps(facts))
    shutil.rmtree(out / "model")
    done = launch(argv)
    assert done.returncode == 0, done.stderr[-2000:]
    file = "model/unet/diffusion_pytorch_model.safetensors"
    assert (out / file).read_bytes() == (runs[1] / file).read_bytes()


def test_an_error_ends_all_with_its_message(tiny_folder: Path, tmp_path: Path) -> None:
    argv = [*RUN, "--model", str(tiny_folder), "--out", str(tmp_path / "r"), "--batch-size", "3"]
    done = launch(argv)
    assert done.returncode != 0
    assert "--batch-size 3 can't be split evenly among 2 processes" in done.stderr
    # Found before the processes meet, it is said once.
    done = launch(["run", "--model", str(tmp_path / "none"), "--concept", "imagenette/chuch"])
    assert done.returncode != 0
    assert len(re.findall("^erase: ", done.stderr, re.MULTILINE)) == 1


def test_an_error_of_the_second_process_alone_ends_both(tiny_folder: Path, tmp_path: Path) -> None:
    """It reads the second sixteen images, of which the last is cut short."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(18):
        Image.new("RGB", (16, 16), (i, 0, 0)).save(folder / f"{i:02d}.png")
    whole = (folder / "17.png").read_bytes()
    (folder / "17.png").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "r"
    at = RUN.index("--forget-images")
    argv = [*RUN[:at], *RUN[at + 2 :], "--model", str(tiny_folder), "--out", str(out)]
    argv += ["--forget-folder", str(folder)]
    done = launch(argv)
    assert done.returncode != 0
    assert "17.png" in done.stderr and not (out / "model").exists()


@pytest.mark.slow
@pytest.mark.parametrize("preview", ["0", "4"])
def test_a_closed_form_in_two(tiny_folder: Path, preview: str, tmp_path: Path) -> None:
    argv = ["run", "--recipe", "uce", "--concept", "mini/church", "--device", "cpu"]
    for key, count in settings(RUN).items():
        if key.startswith(("sampling", "eval")):
            argv += [f"--{key.replace('_', '-')}", count]
    out = tmp_path / "two"
    done = launch([*argv, "--model", str(tiny_folder), "--out", str(out), "--preview", preview])
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ["--micro-batch", "1"],
        ["--low-memory", "--relearn-lr", "0"],
        ["--search-steps", "2", "--search-erase", "2"],
    ],
    ids=lambda more: more[0],
)
def test_other_ways_to_train_are_the_same_in_two(
    tiny_folder: Path, more: list[str], tmp_path: Path
) -> None:
    states, argv = [], [*RUN, *more]
    if "--search-steps" in more:  # after which none starts again
        at = argv.index("--bank-restart")
        del argv[at : at + 2]
    for name, start in (("one", alone), ("two", launch)):
        out = tmp_path / name
        done = start([*argv, "--model", str(tiny_folder), "--out", str(out)])
        assert done.returncode == 0, done.stderr[-2000:]
        states.append(read_state(out / "model", "unet"))
    before = read_state(tiny_folder, "unet")
    moved = sum(float((states[0][n] - v).abs().sum()) for n, v in before.items())
    apart = sum(float((states[0][n] - states[1][n]).abs().sum()) for n in before)
    assert moved > 0 and apart <= (0.05 if "--low-memory" in more else 1e-3) * moved


def test_inputs_that_changed_are_told_by_all(
    runs: tuple[Path, Path], tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "changed"
    shutil.copytree(runs[1], out)
    argv = [*RUN, "--model", str(tiny_folder), "--out", str(out), "--steps", "4"]
    done = launch(argv)
    assert done.returncode != 0
    assert "add --overwrite to redo those" in done.stderr
    assert "RuntimeError" not in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith("Traceback")][1:]


def test_more_processes_than_batches(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "few"
    argv = ["mask", "--concept", "mini/church", "--recipe", "salun-sd", "--forget-images", "2"]
    argv += ["--retain-images", "1", "--saliency-batch", "2", "--sampling-steps", "1"]
    argv += ["--model", str(tiny_folder), "--out", str(out), "--device", "cpu"]
    assert launch(["images", *argv[1:]]).returncode == 0
    done = launch(argv)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (out / "mask.safetensors").exists()


def test_commands_for_one_process_say_so(tiny_folder: Path, tmp_path: Path) -> None:
    argv = ["generate", "--model", str(tiny_folder), "--prompt", "x", "--out", str(tmp_path / "o")]
    done = launch([*argv, "--device", "cpu"])
    assert done.returncode != 0
    assert "2 processes were launched, but this command runs in one" in done.stderr
    done = launch(["compare", "--recipes", "uce", "--concepts", "church", "--dry-run"])
    assert "2 processes were launched, but this command runs in one" in done.stderr


@pytest.mark.parametrize(("rank", "waited"), [("0", []), ("1", [processes.PATIENCE])])
def test_a_process_gives_the_first_time_to_speak_and_then_speaks_itself(
    rank: str,
    waited: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A launcher ends all when one ends: the second must not end before the first has spoken."""
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "_settled", False)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        assert capsys.readouterr().err == ""
        slept.append(seconds)

    monkeypatch.setattr(processes.time, "sleep", sleep)
    with pytest.raises(SystemExit) as left:
        main(["compare", "--recipes", "uce", "--concepts", "church", "--dry-run"])
    assert left.value.code == 2
    assert slept == waited
    assert "2 processes were launched" in capsys.readouterr().err


def test_alone_there_is_nothing_to_share() -> None:
    assert (processes.count(), processes.index()) == (1, 0)
    assert processes.deal([1, 2, 3]) == [1, 2, 3]
    assert processes.gather({"a": 1}) == {"a": 1}
    tensor = torch.randn(3, generator=generator(0))
    kept = tensor.clone()
    processes.add([tensor])
    processes.average([tensor])
    assert torch.equal(tensor, kept)


@pytest.mark.parametrize("sharding", ["FSDP", "DEEPSPEED"])
def test_sharded_weights_are_refused(sharding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As 'accelerate launch' tells its processes that it was asked for."""
    monkeypatch.setenv(f"ACCELERATE_USE_{sharding}", "true")
    with pytest.raises(UserError, match=f"{sharding} shards the weights.*MULTI_GPU"):
        accelerator("cpu", "fp32", False, several=True)


LAUNCHERS = {
    "accelerate": ([str(Path(sys.executable).with_name("accelerate")), "launch"], "{} {}"),
    "accelerate-launch": ([str(Path(sys.executable).with_name("accelerate-launch"))], "{}={}"),
    "module": (["-m", "accelerate.commands.launch"], "{} {}"),
}


@pytest.mark.parametrize(
    "launched",
    [
        "accelerate",
        pytest.param("accelerate-launch", marks=pytest.mark.slow),
        pytest.param("module", marks=pytest.mark.slow),
    ],
)
def test_fewer_processes_than_asked_for_are_told(
    launched: str, tiny_folder: Path, tmp_path: Path
) -> None:
    # What accelerate does with these flags: it starts one, silently.
    start, form = LAUNCHERS[launched]
    launcher = [sys.executable, *start, "--cpu", *form.format("--num_processes", 2).split()]
    launcher += ["-m", "erase", "generate", "--device", "cpu"]
    argv = ["--model", str(tiny_folder), "--prompt", "x", "--out", str(tmp_path / "o")]
    argv += ["--sampling-steps", "1", "--count", "1"]
    done = subprocess.run([*launcher, *argv], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 processes were asked for, but only 1 started" in done.stderr


def test_a_variable_of_accelerates_divides_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert accelerator("cpu", "fp32", False).gradient_accumulation_steps == 1


def test_averages_are_sent_in_messages_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a second process that holds three times as much of everything."""
    sent = []

    class Group:
        @staticmethod
        def get_backend() -> str:
            return "gloo"

        @staticmethod
        def all_reduce(flat: torch.Tensor) -> None:
            sent.append(flat.numel())
            flat.mul_(4)

    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "_group", lambda: Group)
    monkeypatch.setattr(processes, "MESSAGE", 4)
    tensors = [torch.full((size,), float(size)) for size in (3, 2, 5, 1)]
    processes.average(tensors)
    assert sent == [5, 5, 1]
    assert [t.tolist() for t in tensors] == [[2.0 * n] * n for n in (3, 2, 5, 1)]
    processes.average([])
    assert len(sent) == 3
