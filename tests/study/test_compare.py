"""``erase compare`` on a tiny model: resumable cells, shared images, errors that name the cell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from erase.cli.main import main
from erase.cli.options import names
from erase.cli.parser import build_parser
from erase.diffusion.fingerprint import model_fingerprint
from erase.diffusion.model import Diffusion
from erase.eval.comparison.compare import SCHEMA
from erase.eval.instruments.choice import Instruments
from erase.eval.instruments.nudenet import Config
from erase.recipes.recipe import as_dict, idle, load_recipe
from erase.runs.run import Run
from erase.runtime.errors import UserError
from erase.runtime.files import digest
from erase.study.cell import _print, claimed
from erase.study.compare import make_matrix, open_folder, run_matrix, summarise
from erase.study.matrix import Common, Matrix

FIRST = ["esd-x", "uce"]
EVERY = [*FIRST, "fmn", "ca", "ga", "salun-no-mask", "salun-random-mask"]
SMALL = {
    "forget_images": 2,
    "retain_images": 2,
    "anchor_images": 2,
    "sampling_steps": 2,
    "size": 16,
    "sampling_batch": 2,
    "steps": 2,
    "batch_size": 1,
    "x_t_steps": 2,
    "inversion_steps": 0,
    "eval_forget": 2,
    "eval_retain": 2,
    "eval_neighbours": 2,
    "eval_general": 2,
    "eval_empty": 0,
}


def small(recipes: list[str], **more: object) -> dict[str, object]:
    """Tiny settings, those that one of the recipes has a use for."""
    flat = [as_dict(load_recipe(name)) for name in recipes]
    known = {key for settings in flat for key in settings.keys() - idle(settings)}
    return {k: v for k, v in {**SMALL, **more}.items() if k in known}


def _captions(folder: Path) -> Path:
    file = folder / "retain.csv"
    file.write_text("case_number,prompt,evaluation_seed\n0,a dog,1\n1,a tree,1000\n")
    return file


def test_a_matrix_runs_resumes_and_grows(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    first = make_matrix(
        str(tiny_folder),
        FIRST,
        ["imagenette/church"],
        [0],
        out,
        small(FIRST),
        Common(retain=str(_captions(tmp_path))),
    )
    assert run_matrix(first) == []
    done = [c.finished() for c in first.cells]
    assert all(d is not None for d in done)
    for cell in first.cells:
        assert (cell.folder / "delta.safetensors").exists()
        assert not (cell.folder / "model").exists()
    assert done[1] is not None and 0 < done[1]["moved"] < done[1]["weights"]
    stamps = {c.file: c.file.stat().st_mtime_ns for c in first.cells}
    grown = make_matrix(
        str(tiny_folder),
        EVERY,
        ["imagenette/church"],
        [0],
        out,
        small(EVERY),
        Common(retain=str(_captions(tmp_path))),
    )
    assert run_matrix(grown) == []
    assert stamps == {f: f.stat().st_mtime_ns for f in stamps}
    # What the images took is told by every cell that needs them, whoever made them first.
    facts = {c.recipe.name: json.loads(c.file.read_text()) for c in grown.cells}
    for name, cell_facts in facts.items():
        assert (cell_facts["image_forwards"] > 0) == (cell_facts["image_seconds"] > 0), name
    alike = [facts[name]["image_seconds"] for name in ("salun-no-mask", "salun-random-mask")]
    assert alike[0] == alike[1] > facts["fmn"]["image_seconds"] > 0
    assert facts["esd-x"]["forwards"] > 0 == facts["esd-x"]["image_forwards"]
    text = summarise(grown)
    assert all(f"| {r.name} |" in text for r in grown.recipes)
    found = json.loads((out / "compare.json").read_text())
    assert len(found["cells"]) == 7 and len(found["paired"]) == 6
    # The base's images were made once: every run's are the same files.
    sides = [c.folder / "eval" / "base" for c in grown.cells]
    inodes = {tuple(sorted(f.stat().st_ino for f in s.rglob("*.png"))) for s in sides}
    assert len(inodes) == 1
    # A delta turns the base into the erased model.
    from erase.formats.export import export

    export(
        str(first.cells[1].folder / "delta.safetensors"),
        str(tmp_path / "back"),
        base=str(tiny_folder),
    )
    assert (tmp_path / "back" / "unet").is_dir()


def test_one_failed_cell_does_not_end_the_rest(tiny_folder: Path, tmp_path: Path) -> None:
    made = make_matrix(
        str(tiny_folder),
        ["ga", "uce"],
        ["imagenette/church"],
        [0],
        tmp_path / "m",
        small(["ga", "uce"], lr=1e30),
        Common(retain=str(_captions(tmp_path))),
    )
    failed = run_matrix(made)
    assert len(failed) == 1 and failed[0].startswith("ga, imagenette/church, seed 0: ")
    assert "| uce |" in summarise(made) and "| ga |" not in summarise(made)
    # A cell of another base, under the same name.
    other = make_matrix(
        str(tiny_folder),
        ["uce"],
        ["imagenette/church"],
        [0, 1],
        tmp_path / "m",
        small(["uce"]),
        Common(retain=str(_captions(tmp_path))),
    )
    first, second = other.cells
    copy = json.loads(first.file.read_text())
    copy |= {"inputs": digest(second.inputs()), "base": {"denoiser": "another"}}
    second.folder.mkdir(parents=True)
    second.file.write_text(json.dumps(copy))
    with pytest.raises(UserError, match="made from a different base model"):
        summarise(other)


def test_a_cell_knows_what_its_names_stand_for(tiny_folder: Path, tmp_path: Path) -> None:
    captions = _captions(tmp_path)

    def make() -> list[str]:
        made = make_matrix(
            str(tiny_folder),
            ["uce"],
            ["imagenette/church"],
            [0],
            tmp_path / "m",
            small(["uce"]),
            Common(retain=str(captions)),
        )
        return [c.content for c in made.cells]

    before = make()
    assert make() == before
    captions.write_text(captions.read_text().replace("a dog", "a cat"))
    assert make() != before


def test_a_smaller_comparison_keeps_the_larger_ones_cells(
    tiny_folder: Path, tmp_path: Path
) -> None:
    def make(recipes: list[str]) -> Matrix:
        return make_matrix(
            str(tiny_folder),
            recipes,
            ["imagenette/church"],
            [0],
            tmp_path / "m",
            small(recipes),
            Common(retain=str(_captions(tmp_path))),
        )

    both, one = make(["uce", "esd-x"]), make(["uce"])
    assert run_matrix(both) == []
    assert "| esd-x |" in summarise(both) and "| esd-x |" in summarise(one)


def _make_again(folder: Path) -> None:
    """Leaves another model of the same shape in the same place."""
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    save_file({name: value * 1.01 for name, value in state.items()}, weights, {"format": "pt"})
    _print.cache_clear()


def test_a_cells_model_is_attacked_once_and_again_where_more_is_asked(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from erase.eval.attacks import paraphrase
    from erase.eval.recovery.witness import Witness
    from erase.runs.attacks import execute
    from erase.runs.attacks.of_run import Attacks
    from tests.eval.attacks.church import bright

    monkeypatch.setenv("ERASE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("erase.runs.attacks.inquiry.ROWS", {"quick": 2})
    monkeypatch.setattr(execute, "load_witness", lambda *given: Witness(bright, None, {}))
    made = []
    real = paraphrase.run
    monkeypatch.setattr(paraphrase, "run", lambda *given: made.append(given[4]) or real(*given))
    out = tmp_path / "m"
    given = (str(tiny_folder), FIRST, ["imagenette/church"], [0], out, small(FIRST))
    plain = make_matrix(*given, Common(retain=str(_captions(tmp_path))))  # type: ignore[arg-type]
    run_matrix(plain)
    before = [cell.file.read_bytes() for cell in plain.cells]
    assert "worst R" not in summarise(plain)
    matrix = replace(plain, attacks=Attacks(("paraphrase",)))
    assert run_matrix(matrix) == []
    # Erased and random of each cell; the two bounds once.
    assert made == [False, True, False, False, False, True]
    assert [cell.file.read_bytes() for cell in plain.cells] == before
    assert not any((cell.folder / "model").exists() for cell in matrix.cells)
    assert "worst R" in summarise(matrix) and "paraphrase" in (out / "compare.md").read_text()
    assert run_matrix(matrix) == [] and len(made) == 6
    # One that was mended is made again where that is asked for, by what it then does.
    code = {**json.loads((out / "cells").glob("*/*/attack/attack.json").__next__().read_text())}
    assert set(code["facts"]["code"]) == {"paraphrase"}
    monkeypatch.setattr("erase.runs.attacks.kept.code_of", lambda name: "mended")
    assert run_matrix(matrix) == [] and len(made) == 6
    assert run_matrix(matrix, overwrite=True) == [] and len(made) == 12
    # Another floor is another attack.
    floor = shutil.copytree(tiny_folder, tmp_path / "floor")
    again = replace(matrix, attacks=Attacks(("paraphrase",), floor=str(floor)))
    assert all(run_matrix(again) == [] and len(made) == 13 for _ in range(2))
    _make_again(floor)
    assert run_matrix(again) == [] and len(made) == 14
    (matrix.cells[0].folder / "attack" / "attack.json").unlink()
    (matrix.cells[0].folder / "delta.safetensors").unlink()
    [said] = run_matrix(matrix)
    assert "delete cell.json to make it again" in said


def test_a_row_without_training_is_judged_by_its_images_alone(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    from erase.runs.attacks.of_run import Attacks

    out, names_ = tmp_path / "m", ["negative-prompt", "sld"]
    given = (str(tiny_folder), names_, ["imagenette/church"], [0], out, small(names_))
    matrix = make_matrix(*given, Common(retain=str(_captions(tmp_path))))  # type: ignore[arg-type]
    # There is no model to attack.
    assert run_matrix(replace(matrix, attacks=Attacks(("paraphrase",)))) == []
    for cell in matrix.cells:
        facts = json.loads(cell.file.read_text())
        assert facts["moved"] == facts["bytes"] == 0 and facts["training_seconds"] is None
        image = next((cell.folder / "eval/erased").glob("*/*.png"))
        base = cell.folder / "eval/base" / image.parent.name / image.name
        assert image.read_bytes() != base.read_bytes()
    assert "| sld |" in summarise(matrix)
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--model", str(tiny_folder), "--concept", "a church", "--recipe", "sld"])
    assert stopped.value.code == 2 and "leaves the model as it is" in capsys.readouterr().err


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *args])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "m")]
    assert "No recipes were given" in refused(capsys, *out)
    assert "Did you mean 'esd-x'" in refused(capsys, "--recipes", "esd-y", *out)
    assert "given twice" in refused(capsys, "--recipes", "uce,uce", *out)
    differing = refused(capsys, "--recipes", "esd-x,salun-sd14-nudity", *out)
    assert "differ in" in differing
    nothing = refused(capsys, "--recipes", "uce", "--ratio", "0.5", *out)
    assert "'ratio' has no effect on any of the recipes" in nothing
    nothing = refused(capsys, "--recipes", "salun-no-mask,esd-x", "--ratio", "0.5", *out)
    assert "'ratio' has no effect on any of the recipes" in nothing
    alike = refused(capsys, "--recipes", "uce", "--concepts", "church,mini/church", *out)
    assert "mini/church is given twice" in alike
    mixed = refused(capsys, "--recipes", "uce", "--concepts", "all,church", *out)
    assert "--concepts all takes every concept" in mixed
    assert "is not a feature network" in refused(
        capsys, "--recipes", "uce", "--features", "incepton", *out
    )
    assert "less than 1" in refused(capsys, "--recipes", "uce", "--seeds", "0", *out)
    text = refused(
        capsys, "--recipes", "salun-sd", "--model", "x", "--concepts", "a cat on a mat", *out
    )
    assert "no anchor" in text


def test_a_folder_of_another_matrix_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    arguments = (str(tiny_folder), ["uce"], ["imagenette/church"], [0], out)
    open_folder(make_matrix(*arguments, small(["uce"])))
    other = make_matrix(*arguments, small(["uce"], eval_retain=3))
    with pytest.raises(UserError, match="another comparison .different eval_retain."):
        open_folder(other)


def cell_of(matrix: Matrix, number: int, **changes: object) -> dict[str, object]:
    """Writes a cell as an earlier comparison may have left it."""
    cell = matrix.cells[number]
    facts = {
        "schema": SCHEMA,
        "method": cell.recipe.method,
        "summary": {},
        "fidelity": [],
        "inputs": digest(cell.inputs()),
        "recipe": cell.recipe.name,
        "concept": cell.concept,
        "seed": cell.run.seed,
        "base": model_fingerprint(Diffusion.load(matrix.model)),
        "settings": {**as_dict(cell.recipe), "precision": "fp32"},
        **changes,
    }
    cell.folder.mkdir(parents=True)
    cell.file.write_text(json.dumps(facts))
    return facts


def test_a_row_has_one_setting_and_a_table_one_base(tiny_folder: Path, tmp_path: Path) -> None:
    concepts = ["imagenette/church", "imagenette/garbage-truck"]
    both = make_matrix(str(tiny_folder), ["uce"], concepts, [0], tmp_path, small(["uce"], lam=5.0))
    open_folder(both)
    cell_of(both, 0)
    cell_of(both, 1)
    assert run_matrix(both) == []  # precision is settled by the device
    one = make_matrix(str(tiny_folder), ["uce"], concepts[:1], [0], tmp_path, small(["uce"]))
    with pytest.raises(UserError, match="cell of uce .*truck, seed 0. with a different lam"):
        run_matrix(one)
    both.cells[1].file.unlink()
    shutil.rmtree(both.cells[1].folder)
    cell_of(both, 1, base={"denoiser": "another"})
    with pytest.raises(UserError, match="a different base model"):
        run_matrix(both)


def test_what_a_library_raises_ends_one_cell_alone(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = make_matrix(
        str(tiny_folder), ["uce", "esd-x"], ["imagenette/church"], [0], tmp_path, small(FIRST)
    )
    tried = []

    def broken(run: Run, stages: object, overwrite: bool, told: bool) -> None:
        tried.append(run.recipe.name)
        raise ValueError("a tensor is not what it should be")

    with monkeypatch.context() as patched:
        patched.setattr("erase.study.cell.execute", broken)
        first, second = run_matrix(matrix)
    assert tried == ["uce", "esd-x"]
    file = matrix.cells[0].folder / "error.txt"
    assert "ValueError: a tensor is not what it should be" in first and str(file) in first
    assert "Traceback" in file.read_text() and "esd-x" in second
    assert summarise(matrix) == "No cell is finished."
    # What was wrong is mended, and the same command goes on.
    assert run_matrix(matrix) == []
    assert not file.exists() and matrix.cells[0].finished() is not None


def test_what_was_measured_otherwise_stands_in_no_table(tiny_folder: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked.csv"
    asked.write_text("prompt,object\nan old church,church\na red truck,truck\n")
    concept = tmp_path / "chapel.toml"
    concept.write_text(
        'kind = "object"\nword = "church"\ntemplates = ["a {}"]\naxis = "object"\n'
        f'label = "church"\nevaluation = "{asked}"\nretain = "{_captions(tmp_path)}"\n'
        'anchor = "a truck"\n'
    )

    def make(recipes: list[str]) -> Matrix:
        values = small(recipes, eval_neighbours=0, eval_general=0)
        return make_matrix(str(tiny_folder), recipes, [str(concept)], [0], tmp_path / "m", values)

    def trained() -> object:
        run = json.loads((make(FIRST).cells[0].folder / "run.json").read_text())
        return run["stages"]["train"]

    assert run_matrix(make(FIRST)) == []
    delta = make(FIRST).cells[0].folder / "delta.safetensors"
    before, training = load_file(delta), trained()
    asked.write_text(asked.read_text().replace("old", "new"))
    failed = run_matrix(make(FIRST))
    assert len(failed) == 2 and all("add --overwrite" in text for text in failed)
    with pytest.raises(UserError, match="a cell of uce .* before the concept, its prompts"):
        run_matrix(make(["esd-x"]), overwrite=True)
    assert run_matrix(make(FIRST), overwrite=True) == []
    # Other prompts are asked: the model is the one that was kept, trained no second time.
    assert trained() == training
    assert all(torch.equal(v, before[k]) for k, v in load_file(delta).items())
    assert run_matrix(make(["esd-x"])) == []


def test_what_a_kill_leaves_behind_a_finished_cell_is_removed(
    tiny_folder: Path, tmp_path: Path
) -> None:
    arguments = (str(tiny_folder), ["uce"], ["imagenette/church"], [0], tmp_path / "m")
    matrix = make_matrix(*arguments, small(["uce"]))
    (tmp_path / "m").mkdir()
    (tmp_path / "m/.matrix.json.7.part").write_text("{")  # a kill before the folder was claimed
    assert run_matrix(matrix) == []
    left = matrix.cells[0].folder / "model"
    left.mkdir()
    assert run_matrix(matrix) == [] and not left.exists()


def test_a_cell_has_one_maker(tiny_folder: Path, tmp_path: Path) -> None:
    arguments = (str(tiny_folder), ["uce"], ["imagenette/church"], [0], tmp_path / "m")
    matrix = make_matrix(*arguments, small(["uce"]))
    open_folder(matrix)
    with claimed(matrix.cells[0]):
        (failed,) = run_matrix(matrix)
    assert "Another process is making" in failed
    assert run_matrix(matrix) == []


def test_flags_that_are_given_again_add_up(tiny_folder: Path) -> None:
    parse = build_parser().parse_args
    text = "compare --recipes uce --recipes esd-x,fmn --concepts church --concepts radio"
    chosen = parse([*text.split(), "--include", "a=x", "b=y", "--include", "c=z"]).compare
    assert (names(chosen.recipes), names(chosen.concepts)) == (
        ["uce", "esd-x", "fmn"],
        ["church", "radio"],
    )
    assert chosen.include == ["a=x", "b=y", "c=z"]
    assert parse("eval --images a b --images c".split()).eval.images == ["a", "b", "c"]


def test_what_counts_as_nudity_belongs_to_the_matrix(tiny_folder: Path, tmp_path: Path) -> None:
    """Cells made before it could be said are those of the default."""
    arguments = (str(tiny_folder), ["uce"], ["nudity"], [0], tmp_path / "m", small(["uce"]))
    plain = make_matrix(*arguments)
    strict = make_matrix(*arguments, common=Common(Instruments(nudity=Config("strict6"))))
    open_folder(plain)
    facts = json.loads((plain.out / "matrix.json").read_text())
    assert facts.pop("nudity") is None
    (plain.out / "matrix.json").write_text(json.dumps(facts))
    open_folder(plain)
    with pytest.raises(UserError, match="another comparison .different nudity."):
        open_folder(strict)
    assert plain.cells[0].content != strict.cells[0].content
    assert strict.cells[0].run.instruments.nudity == Config("strict6")


def test_names_stand_for_the_bundled_models_recipes() -> None:
    from erase.recipes.choice import recipe_for
    from erase.recipes.recipe import list_recipes

    for name in list_recipes():
        if name.endswith("-mini"):
            bare = name.removesuffix("-mini")
            assert recipe_for(bare, "mini") == name
            assert recipe_for(bare, "some/model") == bare
    assert recipe_for("uce", "some/model") == "uce"


def test_a_cell_is_the_same_however_its_concept_was_called(tmp_path: Path) -> None:
    found = [
        make_matrix("mini", ["uce"], [name], [0], tmp_path, {})
        for name in ("church", "mini/church")
    ]
    first, second = (matrix.cells[0] for matrix in found)
    assert first.inputs() == second.inputs() and first.folder == second.folder
