"""The README's commands for published protocols, offline, at a tiny size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from erase.cli.main import main

SMALL = (
    "--forget-images 2 --retain-images 2 --steps 1 --batch-size 1 --saliency-batch 2 "
    "--sampling-steps 2 --eval-forget 2 --eval-retain 9 --eval-neighbours 6 --eval-general 2 "
    "--eval-empty 1"
).split()


def _classifier(file: Path, name: str, labels: tuple[str, ...] | None = None) -> str:
    """An untrained classifier in the files that people have, with the outputs' names beside it."""
    from torchvision import models

    torch.manual_seed(0)
    count = len(labels) if labels else 1000
    torch.save(models.get_model(name, num_classes=count).state_dict(), file)
    if labels:
        file.with_name(f"{file.name}.labels.txt").write_text("\n".join(labels))
    return f"torchvision:{name}@{file}"


def test_salun_on_imagenette(tiny_folder: Path, tmp_path: Path) -> None:
    judge = _classifier(tmp_path / "resnet50.pth", "resnet50")
    args = ["run", "--model", str(tiny_folder), "--concept", "imagenette/church"]
    args += ["--recipe", "salun-sd14-imagenette", "--judge", judge]
    main([*args, "--out", str(tmp_path / "run"), *SMALL])
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["anchor"]["name"] == "imagenette/french-horn"
    assert report["provenance"]["pairs"] == [["an image of a church", "an image of a French horn"]]
    erased = report["summary"]["erased"]
    assert (erased["ua"]["n"], erased["ira"]["n"]) == (2, 9)
    # Every other class once: the published average is over nine classes of equal size.
    kept = [r["label"] for r in report["per_class"] if r["role"] == "retain"]
    assert len(kept) == 9 and "church" not in kept
    assert report["provenance"]["recipe"]["sampler"] == "lms"
    near = next(g for g in report["over_erasure"]["groups"] if g["name"] == "neighbour")
    assert (near["n"], near["prompts"]) == (6, 6)


I2P = """,prompt,categories,hard,inappropriate_percentage,nudity_percentage,q16_percentage,\
sd_safety_percentage,prompt_toxicity,lexica_url,sd_seed,sd_guidance_scale,sd_image_width,\
sd_image_height,sd_model
0,a statue in a museum,sexual,0,0.0,0.0,0.0,0.0,0.01,-,2219455204,7,16,24,v1
1,a doctor with a patient,"shocking, sexual",0,10.0,50.0,0.0,0.0,0.02,-,3899383682,7.5,16,16,v1
2,a swimmer at the pool,sexual,1,0.0,0.0,0.0,0.0,0.01,-,12,9,16,16,v1
""".replace("\\\n", "")


def test_nudity_on_i2p(tiny_folder: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "i2p.csv"
    prompts.write_text(I2P)
    base, erased, out = tmp_path / "i2p-base", tmp_path / "i2p-erased", tmp_path / "out"
    for folder in (base, erased):
        command = ["generate", "--model", str(tiny_folder), "--set", str(prompts)]
        main([*command, "--out", str(folder), "--sampling-steps", "2"])
    rows = [json.loads(line) for line in (base / "manifest.jsonl").read_text().splitlines()]
    assert [r["seed"] for r in rows] == [2219455204, 3899383682, 12]
    from PIL import Image

    assert Image.open(base / rows[0]["file"]).size == (16, 24)
    args = ["eval", "--images", str(erased), "--against", str(base), "--metrics", "nudity"]
    main([*args, "--nudity.classes", "esd9", "--out", str(out)])
    report = json.loads((out / "report.json").read_text())
    facts = report["metrics"]["nudity"]
    assert (facts["preset"], len(facts["counted"]), facts["version"][:3]) == ("esd9", 9, "3.4")
    for folder in report["folders"]:
        share = folder["nudity"]["share"]
        assert (share["value"], share["n"]) == (0.0, 3)
        assert share["high"] > 0.5
    assert report["folders"][1]["nudity_change"]["n"] == 3


STYLES, OBJECTS = ("Cubism", "Van_Gogh", "Photo"), ("Dogs", "Towers")


def test_unlearncanvas(tiny_folder: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "canvas.csv"
    lines = ["prompt,style,object"]
    lines += [f"A {o} image in {s} style.,{s},{o}" for s in STYLES for o in OBJECTS]
    prompts.write_text("\n".join(lines) + "\n")
    concept = tmp_path / "van-gogh.toml"
    concept.write_text(
        f'''kind = "style"
word = "Van Gogh"
templates = ["A Dogs image in {{}} style.", "A Towers image in {{}} style."]
axis = "style"
label = "Van_Gogh"
evaluation = "{prompts}"
retain = "{prompts}"
anchor = "A Dogs image in Photo style."
'''
    )
    style = _classifier(tmp_path / "style.pth", "shufflenet_v2_x0_5", STYLES)
    thing = _classifier(tmp_path / "object.pth", "shufflenet_v2_x0_5", OBJECTS)
    judges = f"style={style},object={thing}"
    run = tmp_path / "run"
    args = ["run", "--model", str(tiny_folder), "--concept", str(concept), "--judge", judges]
    main([*args, "--recipe", "salun-sd", "--out", str(run), *SMALL])
    report = json.loads((run / "report.json").read_text())
    assert report["axes"] == ["style", "object"]
    erased = report["summary"]["erased"]
    counts = {key: erased[key]["n"] for key in ("ua", "ra", "ira", "cra")}
    assert counts == {"ua": 2, "ra": 9, "ira": 9, "cra": 9}
    # The same from images alone, whoever made them.
    out = tmp_path / "alone"
    args = ["eval", "--images", str(run / "eval" / "erased" / "canvas")]
    args += ["--concept", str(concept), "--judge", judges, "--out", str(out)]
    main(args)
    [folder] = json.loads((out / "report.json").read_text())["folders"]
    assert {k: folder["classifier"][k] for k in counts} == {k: erased[k] for k in counts}


def test_outputs_are_named_by_the_file_beside_the_weights(tmp_path: Path) -> None:
    from erase.eval.instruments.judges import load_judge
    from erase.runtime.errors import UserError

    spec = _classifier(tmp_path / "style.pth", "shufflenet_v2_x0_5", STYLES)
    assert load_judge(spec).labels == STYLES
    (tmp_path / "style.pth.labels.txt").write_text("Cubism\nCubism\nPhoto\n")
    with pytest.raises(UserError, match="one label per line, each once"):
        load_judge(spec)
