"""Training of the bundled model without an object or a style, with a step or two of each round."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from erase.mini import train, world
from erase.mini.optimise import prompt_bank
from erase.runtime.errors import UserError


def test_captions_are_left_out_by_what_they_name() -> None:
    bank = prompt_bank(world.TEMPLATES)
    church = [p for p, o, s in bank if "church" in train.labels_of(("", o, s))]
    ink = [p for p, o, s in bank if "ink" in train.labels_of(("", o, s))]
    # 18 templates in each of four styles, and the 6 that leave the style open.
    assert len(church) == 18 * 4 + 6 and all("church" in p for p in church)
    assert len(ink) == 18 * 12 and all("ink" in p for p in ink)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture a cell, one step, and captions that are not encoded."""
    monkeypatch.setattr(train, "_embeddings", lambda *given: torch.zeros(len(given[2]), 77, 64))
    monkeypatch.setattr(train, "COUNT", 1)
    monkeypatch.setattr(train.train_unet, "__defaults__", ((1,), None))
    monkeypatch.setattr(train, "encode_all", lambda vae, images: numbered(len(images)))


def numbered(count: int) -> torch.Tensor:
    """Latent moments of which each mean is the picture's number, without deviation."""
    moments = torch.zeros(count, 2, 4, 16, 16)
    moments[:, 0] = torch.arange(count).view(-1, 1, 1, 1).float() / 100
    return moments


@pytest.mark.usefixtures("short")
def test_the_denoiser_alone_is_written_in_half_precision(tmp_path: Path) -> None:
    folder = train.train_without("church", tmp_path / "work", 0, tmp_path)
    assert folder.name == "never-church"
    found = UNet2DConditionModel.from_pretrained(folder)
    assert found.config["cross_attention_dim"] == 64
    [file] = folder.glob("*.safetensors")
    assert {value.dtype for value in load_file(file).values()} == {torch.float16}


@pytest.mark.usefixtures("short")
def test_no_picture_of_it_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    class Stop(Exception): ...

    def optimise(name: str, unet: object, loss: object, **more: object) -> None:
        closed = dict(
            zip(loss.func.__code__.co_freevars, loss.func.__closure__, strict=True)  # type: ignore[attr-defined]
        )
        drawn.extend((100 * closed["latents"].cell_contents[:, 0, 0, 0, 0]).round().int().tolist())
        raise Stop

    monkeypatch.setattr(train, "optimise", optimise)
    with pytest.raises(Stop):
        train.train_without("church", tmp_path, 0, tmp_path)
    cells = [(o, s) for o in world.OBJECT_LABELS for s in world.STYLE_LABELS]
    assert {cells[number][0] for number in drawn} == {*world.OBJECT_LABELS} - {"church"}
    assert len(drawn) == 44


@pytest.mark.usefixtures("short")
def test_another_training_takes_none_of_its_stages(tmp_path: Path) -> None:
    given = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--threads", "1"]
    for more in (["church"], ["church", "--seed", "1"], ["ink"]):
        train.main([*given, "--without", *more])
    folders = sorted((tmp_path / "out").iterdir())
    assert [folder.name for folder in folders] == ["never-church", "never-church-1", "never-ink"]
    weights = [load_file(next(folder.glob("*.safetensors"))) for folder in folders]
    for other in weights[1:]:
        assert any(not torch.equal(value, other[name]) for name, value in weights[0].items())


def test_a_name_that_the_world_lacks_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'church'"):
        train.train_without("chruch", tmp_path, 0, tmp_path)
