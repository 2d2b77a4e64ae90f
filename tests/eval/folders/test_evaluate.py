"""``erase eval --images``: any folders side by side, with the figures that a run's report has."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from erase.cli.main import main
from erase.eval.folders.entries import Defect
from erase.eval.folders.evaluate import Inquiry, evaluate_folders
from erase.eval.instruments.bundled import mini_clip
from erase.eval.instruments.choice import Instruments
from erase.eval.instruments.judges import Answer, Pixels
from erase.eval.instruments.nudenet import Config
from erase.eval.report.evaluate import evaluate
from erase.prompts.concept import Concept, load_concept
from erase.prompts.prompt_set import load_set
from erase.runtime.errors import UserError
from tests.eval.pictures import fill
from tests.eval.report.test_nudity import LABEL, RedDetector
from tests.eval.report.test_page import Reader
from tests.eval.synthetic import (
    CHURCH,
    TRUCK,
    ColourFeatures,
    ColourJudge,
    asked,
    judges,
    right,
    write_run,
    write_side,
    wrong,
)

ALL = ("classifier", "fidelity", "nudity")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "church")


def inquiry(run: Path, **changes: Any) -> Inquiry:
    sides = {side: run / "eval" / side for side in ("base", "base2", "erased")}
    settings: dict[str, Any] = {
        "folders": (sides["erased"],),
        "metrics": ALL,
        "against": sides["base"],
        "reference": sides["base2"],
        "concept": CHURCH,
        "anchor": TRUCK,
    }
    return Inquiry(**{**settings, **changes})


def measured(asked: Inquiry, out: Path) -> dict[str, Any]:
    return evaluate_folders(
        asked, out, judges=judges(), extractor=ColourFeatures(), detector=RedDetector()
    )


def test_a_run_has_the_figures_of_its_own_report(run: Path, tmp_path: Path) -> None:
    theirs = evaluate(
        run,
        CHURCH,
        TRUCK,
        judges=judges(),
        extractor=ColourFeatures(),
        instruments=Instruments(nudity=Config()),
        detector=RedDetector(),
    )
    found = measured(inquiry(run), tmp_path)
    assert [f["name"] for f in found["folders"]] == ["base", "erased"] and found["base"] == "base"
    for side, figures in zip(("base", "erased"), found["folders"], strict=True):
        for key in ("ua", "ira", "cra", "became_anchor"):
            assert figures["classifier"][key] == theirs["summary"][side][key]
        fid = next(f for f in theirs["fidelity"] if f["name"].startswith("FID"))
        assert figures["fidelity"]["fid"]["value"] == pytest.approx(fid[side])
        assert figures["nudity"] == theirs["nudity"]["compared"][side]
    assert found["folders"][1]["nudity_change"] == theirs["nudity"]["compared"]["change"]
    assert found["folders"][0]["nudity_change"] is None
    changes = {c["label"]: c["change"] for c in found["folders"][1]["classifier"]["per_class"]}
    assert changes["radio"] == pytest.approx(-0.5)


def test_the_files_hold_the_same_figures(run: Path, tmp_path: Path) -> None:
    found = measured(inquiry(run), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == found
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    assert [r["folder"] for r in rows] == ["base", "erased"]
    assert float(rows[1]["ua"]) == 0.9 and float(rows[1]["ira"]) == pytest.approx(10 / 12)
    assert rows[0]["nudity_change"] == ""
    text = (tmp_path / "report.md").read_text()
    assert "| erased | 22 | 4.5 (" in text and "22 pictures are used." in text
    page = Reader((tmp_path / "report.html").read_text())
    assert "script" not in page.tags
    # Ten churches before and one after, all of them blurred.
    assert page.values("label", "class").count("veil") == page.tags.count("img") == 11
    assert "belly exposed" in page.text and "10 (10)" in page.text
    # What was measured is the heading, what was found the first sentence, before the table.
    assert "UA of church, nudity (esd9), FID and KID in base and erased" in page.text
    said = "erased: church is recognised in 10.0 % of the 10 images that should show it"
    plain = page.text.replace("\u00a0", " ")
    assert plain.index(said) < plain.index("10 (10)")
    assert text.replace("\u00a0", " ").startswith(f"- {said}")
    assert "also flags harmless pictures" in page.text and "belly exposed 0." in page.text
    # Facts as one reads them, without the syntax of Python or paths of this machine.
    html = (tmp_path / "report.html").read_text()
    assert "{&#39;" not in html and str(tmp_path) not in html and str(run) not in html


def test_a_run_shows_its_pictures_where_nothing_was_looked_for(run: Path, tmp_path: Path) -> None:
    asked = inquiry(run, metrics=("classifier",), reference=None)
    found = measured(asked, tmp_path)
    page = Reader((tmp_path / "report.html").read_text())
    # 22 pictures a side, of which the page shows 16.
    assert page.tags.count("img") == 32 and "erased: 16 of 22" in page.text
    assert "veil" not in page.values("label", "class") and "harmless" not in page.text
    assert all(f["scan"]["skipped"] == 0 for f in found["folders"])


def test_names_and_a_prompt_set_are_joined(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    rows = ["case_number,prompt,evaluation_seed,object,style"]
    for case, (label, colour) in enumerate((("church", "church"), ("truck", "truck"))):
        from tests.eval.synthetic import COLOURS, CORNERS

        rows.append(f"{case},a flat {label},{case},{label},flat")
        image = Image.new("RGB", (8, 8), COLOURS[colour])
        image.putpixel((0, 0), CORNERS["flat"])
        image.putpixel((7, 7), (case, 0, 0))
        image.save(folder / f"{case}_0.png")
    (folder / "9_0.png").write_bytes((folder / "0_0.png").read_bytes())
    (tmp_path / "set.csv").write_text("\n".join(rows) + "\n")
    asked = Inquiry(
        folders=(folder,),
        metrics=("classifier",),
        prompts=load_set(str(tmp_path / "set.csv")),
        concept=CHURCH,
        anchor=TRUCK,
    )
    found = evaluate_folders(asked, tmp_path / "out", judges=judges())
    (figures,) = found["folders"]
    assert (figures["n"], figures["forget"]) == (2, 1)
    assert figures["classifier"]["ua"]["value"] == 0.0
    assert figures["classifier"]["ira"]["value"] == 1.0
    assert figures["scan"]["reasons"]["case number is not in the prompt set"]["count"] == 1


def test_what_was_measured_is_not_measured_again(run: Path, tmp_path: Path) -> None:
    detector = RedDetector()
    for classes in ("esd9", LABEL):
        asked = inquiry(
            run,
            metrics=("nudity",),
            instruments=Instruments(nudity=Config(classes)),
            reference=None,
        )
        evaluate_folders(asked, tmp_path, detector=detector)
    files = [f for side in ("base", "erased") for f in (run / "eval" / side).rglob("*.png")]
    assert detector.seen == len({f.read_bytes() for f in files}) == 35


def test_folders_of_one_name_are_told_apart(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other")
    sides = (run / "eval" / "erased", other / "eval" / "erased")
    asked = inquiry(run, folders=sides, against=None, metrics=("nudity",), reference=None)
    names = [f["name"] for f in measured(asked, tmp_path / "out")["folders"]]
    assert names == ["church/eval/erased", "other/eval/erased"]


def test_nudity_as_the_concept_is_that_of_its_own_prompts_where_they_are_told(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path / "run")
    asked = inquiry(run, metrics=("nudity",), concept=load_concept("nudity"), reference=None)
    found = evaluate_folders(asked, tmp_path / "out", detector=RedDetector())
    assert [f["nudity"]["n"] for f in found["folders"]] == [10, 10]
    assert found["folders"][1]["nudity_change"]["n"] == 10


def test_other_prompts_are_no_pairs(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    manifest = run / "eval" / "erased" / "squares" / "manifest.jsonl"
    lines = manifest.read_text().splitlines()
    changed = [
        line.replace("a flat", "one flat") if i < 4 else line for i, line in enumerate(lines)
    ]
    manifest.write_text("\n".join(changed) + "\n")
    asked = inquiry(run, metrics=("nudity",), concept=None, reference=None)
    found = evaluate_folders(asked, tmp_path / "out", detector=RedDetector())
    assert found["folders"][1]["nudity_change"]["n"] == 18
    assert "18 pairs" in (tmp_path / "out" / "report.md").read_text()


def test_every_folders_labels_are_offered_to_a_zero_shot_judge(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from erase.eval.folders import evaluate as standalone

    seen: list[int] = []
    real = standalone._setting

    def spy(asked: Inquiry, pictures: Any, *rest: Any) -> Any:
        seen.append(len(pictures))
        return real(asked, pictures, *rest)

    monkeypatch.setattr(standalone, "_setting", spy)
    measured(inquiry(run), tmp_path)
    assert seen == [44]


def test_roles_by_the_prompt_where_there_is_no_label(tmp_path: Path) -> None:
    rows = ["case_number,prompt", "0,a church on a hill", "1,a truck"]
    (tmp_path / "set.csv").write_text("\n".join(rows) + "\n")
    for case in (0, 1):
        Image.new("RGB", (8, 8), (case, 0, 0)).save(tmp_path / f"{case}_0.png")
    asked = Inquiry(
        folders=(tmp_path,),
        metrics=("nudity",),
        prompts=load_set(str(tmp_path / "set.csv")),
        concept=load_concept("a church"),
    )
    found = evaluate_folders(asked, tmp_path / "out", detector=RedDetector())
    # The concept's words are "a church", which the first prompt holds.
    assert (found["folders"][0]["n"], found["folders"][0]["forget"]) == (2, 1)


def test_other_groups_of_prompts_count_where_a_metric_looks_at_them(
    run: Path, tmp_path: Path
) -> None:
    rows = [
        *asked("forget", wrong("church", "truck", 3), 0),
        *asked("retain", right("truck", 2), 10),
        *asked("empty", [*right("church", 2), *right("radio", 1)], 20),
    ]
    write_side(tmp_path / "side", rows)
    sides = {"folders": (tmp_path / "side",), "against": None, "reference": None}
    both = inquiry(run, metrics=("classifier", "prior_mass"), **sides)
    [found] = measured(both, tmp_path / "both")["folders"]
    shares = {f["key"]: (f["value"], f["n"]) for f in found["figures"]}
    assert shares["prior_mass"] == (pytest.approx(2 / 3), 3)
    assert (shares["ua"], shares["ira"], found["scan"]["skipped"]) == ((1, 3), (1, 2), 0)
    [plain] = measured(inquiry(run, metrics=("classifier",), **sides), tmp_path / "plain")[
        "folders"
    ]
    assert (plain["scan"]["used"], plain["scan"]["skipped"]) == (5, 3)
    assert Defect.BESIDE in plain["scan"]["reasons"]


def test_what_could_not_be_measured_is_said(run: Path, tmp_path: Path) -> None:
    asked = inquiry(run, metrics=("fidelity",))
    found = evaluate_folders(asked, tmp_path)
    assert any("no feature network" in note for note in found["notes"])
    assert "no feature network" in (tmp_path / "report.md").read_text()


MISTAKES: list[tuple[Mapping[str, Any], str]] = [
    ({"metrics": ("nuditi",)}, "Did you mean 'nudity'"),
    ({"metrics": ()}, "No metric"),
    ({"concept": None}, "needs --concept"),
    ({"reference": None}, "need --reference"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_mistakes_are_told_before_anything_is_read(
    changes: Mapping[str, Any], message: str, run: Path
) -> None:
    with pytest.raises(UserError, match=message):
        inquiry(run, **changes)


def test_labels_must_say_what_was_erased(run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    asked = inquiry(run, folders=(tmp_path,), against=None)
    with pytest.raises(UserError, match="no label 'object'"):
        measured(asked, tmp_path / "out")


def test_faces_are_a_positive_control_of_the_whole_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = pytest.importorskip("skimage.data")
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(data.astronaut()).save(folder / "astronaut.png")
    Image.fromarray(data.coffee()).save(folder / "coffee.png")
    (folder / "broken.png").write_text("no picture")
    argv = ["eval", "--images", str(folder), "--metrics", "nudity", "--out", str(tmp_path / "out")]
    argv += ["--nudity.classes", "FACE_FEMALE,FACE_MALE"]
    main(argv)
    printed = capsys.readouterr().out
    assert "| pictures | 2 | 50.0 (" in printed and "not an image by its content (1)" in printed
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["metrics"]["nudity"]["counted"] == ["FACE_FEMALE", "FACE_MALE"]
    with pytest.raises(SystemExit):
        main(argv)
    assert "holds a report: add --overwrite" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*argv, "--dry-run"])
    assert "--dry-run has no effect" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*argv, "--lr", "1"])
    assert "--lr has no effect" in capsys.readouterr().err


def folder_of(place: Path, names: Mapping[str, int]) -> Path:
    """Pictures that nothing is known of, by name and colour."""
    for name, value in names.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (value, 255 - value, value // 2)).save(place / name)
    return place


def test_equal_folders_without_manifests_have_no_distance(tmp_path: Path) -> None:
    names = {"a/1.png": 0, "a/2.png": 40, "b/1.png": 90, "b/2.png": 200}
    base, theirs = (folder_of(tmp_path / side, names) for side in ("base", "theirs"))
    asked = Inquiry((theirs,), ("lpips",), against=base, instruments=Instruments(lpips="mini"))
    found = evaluate_folders(asked, tmp_path / "out")["folders"][1]["lpips"]
    assert (found["value"], found["n"]) == (0.0, 4)
    assert "(4 pairs)" in (tmp_path / "out" / "report.md").read_text()
    # One more on a side is left out, and said to be.
    folder_of(theirs, {"c/3.png": 120})
    result = evaluate_folders(asked, tmp_path / "out")
    assert result["folders"][1]["lpips"]["n"] == 4
    assert any(
        "theirs, lpips: 4 of 5 images have a counterpart" in note for note in result["notes"]
    )


class Always(ColourJudge):
    """Sees its first label in every image."""

    def classify(self, images: Sequence[Pixels]) -> list[Answer]:
        return [(self.labels[0], 0.75)] * len(images)


def test_a_sets_file_column_says_what_published_samples_show(tmp_path: Path) -> None:
    names = ["Van_Gogh_Dogs_seed188.jpg", "Sketch_Dogs_seed188.jpg", "a-photo-of-a-dog_0.jpg"]
    fill(tmp_path / "theirs", *names)
    (tmp_path / "set.csv").write_text(
        "file,prompt,style,object\n"
        f"{names[0]},a Dogs image in Van Gogh style,Van_Gogh,Dogs\n"
        f"{names[1]},a Dogs image in Sketch style,Sketch,Dogs\n"
        f"theirs/{names[2]},a photo of a dog,,Dogs\n"
    )
    concept = Concept(
        "van-gogh", "style", "Van Gogh", axis="style", label="Van_Gogh", evaluation="set.csv"
    )
    asked = Inquiry(
        (tmp_path / "theirs",),
        ("classifier",),
        prompts=load_set(str(tmp_path / "set.csv")),
        concept=concept,
    )
    always = Always(("Van_Gogh", "Sketch"), {}, (0, 0))
    (folder,) = evaluate_folders(asked, tmp_path / "out", judges={"style": always})["folders"]
    assert (folder["n"], folder["forget"]) == (3, 1)
    assert folder["scan"]["skipped"] == 0
    # The judge sees Van Gogh everywhere: nothing is erased, and the one retained image that has a
    # style is not recognised; the photo has none.
    assert folder["classifier"]["ua"]["value"] == 0
    assert (folder["classifier"]["ira"]["value"], folder["classifier"]["ira"]["n"]) == (0, 1)


def test_an_empty_prompt_counts_towards_no_clip_score(tmp_path: Path) -> None:
    fill(tmp_path / "theirs", "0_0.png", "1_0.png", "2_0.png")
    (tmp_path / "set.csv").write_text("prompt,evaluation_seed\na church,1\n,2\na dog,3\n")
    asked = Inquiry(
        (tmp_path / "theirs",),
        ("clip_score",),
        prompts=load_set(str(tmp_path / "set.csv")),
        instruments=Instruments(clip=mini_clip()),
    )
    (folder,) = evaluate_folders(asked, tmp_path / "out")["folders"]
    assert (folder["n"], folder["clip_score"]["n"]) == (3, 2)
    with pytest.raises(UserError, match="needs every picture's prompt"):
        evaluate_folders(replace(asked, prompts=None), tmp_path / "more")


def test_a_folder_inside_another_would_count_twice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pics/erased lies in .*pics, .*count for both"):
        Inquiry((tmp_path / "pics/erased",), ("nudity",), against=tmp_path / "pics")
    Inquiry((tmp_path / "pics",), ("nudity",), against=tmp_path / "pics-erased")


def test_a_run_is_measured_by_its_own_judge_against_its_own_anchor(tmp_path: Path) -> None:
    from erase.cli.evaluate import _inquiry
    from erase.cli.parser import build_parser
    from erase.eval.instruments.choice import UNNAMED

    given = {"concept": "church", "anchor": "", "judge": "open_clip:x"}
    facts = {"given": given, "model": {"source": "mini"}}
    (tmp_path / "run.json").write_text(json.dumps(facts))

    def found(*more: str, judge: str | None = None) -> tuple[str | None, str | None]:
        options = build_parser().parse_args(["eval", "--images", str(tmp_path), *more]).eval
        made, _ = _inquiry(options, replace(UNNAMED, judge=judge))
        return made.anchor and made.anchor.name, made.instruments.judge

    assert found() == ("", "open_clip:x")
    assert found("--anchor", "truck", judge="mini") == ("mini/truck", "mini")
    facts["given"] = {**given, "anchor": "radio"}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    assert found("--anchor", "") == ("", "open_clip:x")
