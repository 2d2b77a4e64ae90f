"""The Python interface of the README does what the command line does."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

import erase
from erase.runs.make import resume
from erase.runs.preflight import prepare


def test_five_lines_of_python(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "church"
    report = erase.run(
        model=tiny_folder, concept="a church", anchor="a truck", out=out, precision="bf16",
        forget_images=2, retain_images=2, steps=1, batch_size=1, sampling_steps=1,
        eval_forget=2, eval_retain=2, eval_general=2, eval_empty=2,
    )  # fmt: skip
    assert report["summary"]["erased"]["ua"] is report.ua is None
    assert erase.load_report(out) == report
    # What was trained in bf16 is judged in what precision there is, and stays what it was.
    run = resume(out)
    assert run is not None and run.recipe.precision == "bf16"
    ready = prepare([run], ("generate", "eval"))
    assert ready.accelerator.mixed_precision == "no" and ready.stale == ((),)
    assert prepare([run], ("train",), overwrite=True).accelerator.mixed_precision == "bf16"
    model = erase.Diffusion.load(str(out / "model"))
    images = model.sample([erase.Shot("a church", seed=1)], erase.Sampler("dpm++", 2, 3.0))
    assert images.shape == (1, 16, 16, 3)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        erase.no_such_thing  # noqa: B018
    assert all(getattr(erase, name) for name in erase.__all__)
    # Completion finds what is imported on first use, and nothing else.
    assert dir(erase) == sorted([*erase.__all__, "__version__"])
    assert erase.__version__ == version("erase-diffusion")
