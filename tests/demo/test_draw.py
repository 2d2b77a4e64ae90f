from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from erase.demo.draw import check_shot, draw
from erase.demo.show import Show
from erase.diffusion.model import Diffusion
from erase.images.request import Shot
from erase.runtime.errors import UserError
from tests.tiny import tiny_class_unet


class Stop(Exception):
    pass


def test_each_column_draws_the_same_noise_as_the_model_itself_does(show: Show) -> None:
    told: list[Mapping[str, Any]] = []
    shot = Shot("a church", 7)
    draw(show, shot, told.append)
    steps = [(event["column"], event["step"], event["steps"]) for event in told if "step" in event]
    assert steps == [(column, step, 3) for column in (0, 1) for step in (1, 2, 3)]
    images = [event for event in told if "image" in event]
    for event, column in zip(images, show.columns, strict=True):
        [expected] = column.model.sample([shot], show.sampler)
        file = io.BytesIO(base64.b64decode(event["image"].partition(",")[2]))
        np.testing.assert_array_equal(np.asarray(Image.open(file)), expected)
        [answer] = event["answers"]
        assert answer["axis"] == "object" and answer["said"].endswith("%")
        label = answer["said"].partition(",")[0]
        assert answer["still"] == (label == "church" and column is show.columns[1])
        assert event["veiled"] is False
    assert told.index(images[0]) < steps.index((1, 1, 3)) + 2
    assert images[0]["image"] != images[1]["image"]


def test_what_should_be_gone_is_marked_in_the_erased_models_column(show: Show) -> None:
    from dataclasses import replace

    from erase.demo.draw import _told
    from erase.demo.judging import NUDITY, Answer

    base, erased = show.columns
    answer = Answer("object", "church", 0.984)
    assert _told(answer, base) == {"axis": "object", "said": "church, 98.4\u00a0%", "still": False}
    assert _told(answer, erased)["still"]
    parts = Answer(*NUDITY, 0.5, ("BELLY_EXPOSED", "FEET_EXPOSED"))
    said = _told(parts, replace(erased, erased={NUDITY}))
    assert said["said"] == "detected: belly exposed and feet exposed, 50.0\u00a0%"
    assert said["still"]


def test_who_stops_listening_stops_the_work_within_a_step(show: Show) -> None:
    model = show.columns[0].model
    scheduler, hooks = model.pipeline.scheduler, len(model.denoiser._forward_hooks)
    heard: list[int] = []

    def tell(event: Mapping[str, Any]) -> None:
        heard.append(event["step"])
        if event["step"] == 2:
            raise Stop

    with pytest.raises(Stop):
        draw(show, Shot("a church", 7), tell)
    assert heard == [1, 2]
    assert model.pipeline.scheduler is scheduler
    assert len(model.denoiser._forward_hooks) == hooks


@pytest.mark.parametrize(
    ("prompt", "seed", "wrong"),
    [
        ("  ", "0", "There is no prompt"),
        (None, "0", "There is no prompt"),
        ("\ud800", "0", "half a character"),
        ("church " * 76, "0", "longer than the 77 tokens"),
        ("a church", "-1", "seed '-1' can't be used: give a whole number from 0 to 2"),
        ("a church", str(2**63), "can't be used"),
        ("a church", "1.5", "can't be used"),
        ("a church", "", "can't be used"),
        ("a church", "٣", "can't be used"),
    ],
)
def test_bad_input_is_one_sentence(show: Show, prompt: object, seed: str, wrong: str) -> None:
    with pytest.raises(UserError, match=wrong):
        check_shot({"prompt": prompt, "seed": seed}, show.columns[0].model.reader)


def test_what_may_be_asked_for(show: Show) -> None:
    reader = show.columns[0].model.reader
    most = "church " * 75  # and the two that begin and end every prompt
    assert check_shot({"prompt": most, "seed": str(2**63 - 1)}, reader) == Shot(
        most.strip(), 2**63 - 1
    )
    assert check_shot({"prompt": " a church ", "seed": 5}, reader) == Shot("a church", 5)
    assert check_shot({"prompt": 0, "seed": 0}, reader) == Shot("0", 0)
    with pytest.raises(UserError, match="There is no prompt"):
        check_shot(["a church"], reader)


def test_full_memory_is_one_sentence(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("erase.diffusion.model.Diffusion.sample", full)
    with pytest.raises(UserError, match=r"memory is full \(2.00 GiB .*: show fewer runs"):
        draw(show, Shot("a church", 7), print)


def test_a_model_of_classes_is_asked_by_their_names(tmp_path: Path) -> None:
    reader = Diffusion.load(str(tiny_class_unet(tmp_path / "unet"))).reader
    assert check_shot({"prompt": "owl", "seed": 3}, reader) == Shot("owl", 3)
    with pytest.raises(UserError, match="no class 'owls'. Did you mean 'owl'"):
        check_shot({"prompt": "owls", "seed": 3}, reader)
