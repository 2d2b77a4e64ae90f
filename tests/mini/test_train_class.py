"""Training of the class-conditional miniature, with a picture a cell and two steps."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from safetensors.torch import load_file

from erase.mini import train_class, world
from erase.mini.optimise import Loss


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_class, "COUNT", 1)


def test_drawings_are_halved_and_a_class_can_be_left_out(tmp_path: Path) -> None:
    x, labels = train_class.drawings(tmp_path)
    drawn = torch.from_numpy(world.render("church", "ink", 0, "generator").copy()).float()
    cell = world.OBJECT_LABELS.index("church") * 4 + world.STYLE_LABELS.index("ink")
    halved = drawn.view(32, 2, 32, 2, 3).mean((1, 3)).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(x[cell], halved)
    assert len(x) == 48 and labels.tolist() == [o for o in range(12) for _ in range(4)]
    x, labels = train_class.drawings(tmp_path, "church")
    assert len(x) == 44 and world.OBJECT_LABELS.index("church") not in labels.tolist()


def test_it_opens_in_plain_diffusers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    given = ["--work", str(tmp_path / "work"), "--out", str(tmp_path), "--steps", "2"]
    train_class.main([*given, "--threads", "1", "--without", "church"])
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    folder = tmp_path / "never-church-0"
    assert capsys.readouterr().out.strip().endswith(str(folder))
    unet = UNet2DModel.from_pretrained(folder / "unet")
    assert sum(p.numel() for p in unet.parameters()) <= 1_200_000
    [file] = (folder / "unet").glob("*.safetensors")
    assert {value.dtype for value in load_file(file).values()} == {torch.float16}
    facts = json.loads((folder / "classes.json").read_text())
    assert facts["classes"] == list(world.OBJECT_LABELS) and facts["null"] == 12
    assert (facts["guidance"], facts["steps"]) == (2.0, 25)
    assert unet.config["num_class_embeds"] == 13
    assert DDIMScheduler.from_pretrained(folder / "scheduler").config["beta_end"] == 0.02


def test_what_it_learns_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise of images under their own labels, a tenth of them under the null class's."""
    asked: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    class Silent(torch.nn.Module):
        def forward(self, x_t: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> Any:
            asked.append((x_t, t, labels))
            return SimpleNamespace(sample=torch.zeros_like(x_t))

    monkeypatch.setattr(train_class, "build_denoiser", Silent)
    taken: list[Loss] = []
    monkeypatch.setattr(train_class, "optimise", lambda *given, **_: taken.append(given[2]))
    train_class.train(tmp_path, seed=0)
    x, objects = train_class.drawings(tmp_path)
    abar = train_class.build_scheduler().alphas_cumprod
    dropped = 0
    for step in range(40):
        value = taken[0](step, torch.Generator().manual_seed(step))
        g = torch.Generator().manual_seed(step)
        index = torch.randint(len(x), (32,), generator=g)
        noise = torch.randn(32, 3, 32, 32, generator=g)
        x_t, t, labels = asked[-1]
        a = abar[t].view(-1, 1, 1, 1)
        torch.testing.assert_close(x_t, a.sqrt() * x[index] + (1 - a).sqrt() * noise)
        null = labels == 12
        assert torch.equal(labels[~null], objects[index][~null])
        dropped += int(null.sum())
        snr = abar[t] / (1 - abar[t])
        weighed = torch.minimum(snr, torch.tensor(5.0)) / snr * noise.square().mean((1, 2, 3))
        torch.testing.assert_close(value, weighed.mean())
    assert 80 < dropped < 180  # of 1280: 128 on average


def test_another_length_resumes_nothing(tmp_path: Path) -> None:
    first, second = (train_class.train(tmp_path, seed=0, steps=n).state_dict() for n in (1, 2))
    assert any(not torch.equal(first[name], value) for name, value in second.items())


def test_only_the_bundled_model_goes_where_it_lies(capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["--steps", "2"], ["--seed", "1"], ["--without", "church"]):
        with pytest.raises(SystemExit) as left:
            train_class.main(given)
        assert left.value.code == 2 and "add --out" in capsys.readouterr().err


def test_a_class_that_the_world_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        train_class.main(["--without", "chruch"])
    assert left.value.code == 2 and "Did you mean 'church'" in capsys.readouterr().err
