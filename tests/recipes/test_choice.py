from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from erase.prompts.classes import class_concept
from erase.prompts.concept import load_concept
from erase.recipes.choice import default_recipe, is_bundled, recipe_for
from erase.runtime.errors import UserError
from tests.tiny import tiny_sd2, tiny_sdxl, tiny_single_file


def test_default_recipe() -> None:
    church, nudity = load_concept("imagenette/church"), load_concept("nudity")
    assert default_recipe("mini", church) == default_recipe("mini", nudity) == "salun-mini"
    assert default_recipe("some/model", load_concept("a dog")) == "salun-sd"
    assert default_recipe("some/model") == "salun-sd"
    cat = class_concept("class:cat", ["cat"])
    assert default_recipe("some/model", cat) == "salun-ddpm"
    assert default_recipe("mini-class", cat) == "salun-mini-class"
    assert recipe_for("esd-u", "mini") == "esd-u-mini" and is_bundled("esd-u-mini")
    assert recipe_for("esd-u", "mini-class") == "esd-u" and not is_bundled("esd-u")


def test_what_was_published_for_stable_diffusion_1_is_no_default_of_others(
    tiny_folder: Path, tmp_path: Path
) -> None:
    church, nudity = load_concept("imagenette/church"), load_concept("nudity")
    second, xl = tiny_sd2(tmp_path / "sd2"), tiny_sdxl(tmp_path / "xl")
    files = {folder: tmp_path / f"{folder.name}.safetensors" for folder in (tiny_folder, xl)}
    for folder, file in files.items():
        tiny_single_file(folder, file)
    for model in (tiny_folder, files[tiny_folder]):
        assert default_recipe(str(model), nudity) == "salun-sd14-nudity"
        assert default_recipe(str(model), church) == "salun-sd14-imagenette"
    for model in (second, xl, files[xl]):
        assert default_recipe(str(model), nudity) == default_recipe(str(model), church)
        assert default_recipe(str(model), nudity) == "salun-sd"
    # A guess would be another recipe once the model is there.
    with pytest.raises(UserError, match="can't be asked.*--recipe salun-sd14-nudity, or --rec"):
        default_recipe("some/model", nudity)
    with pytest.raises(UserError, match="There is no model 'nowhere'"):
        default_recipe("nowhere", nudity)


def test_a_model_of_the_hub_is_told_by_its_configuration(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nudity, second = load_concept("nudity"), tiny_sd2(tmp_path / "sd2")
    hub = {"some/first": tiny_folder, "some/second": second}
    asked = []

    def fetch(spec: str, name: str, local_dir: str) -> str:
        asked.append(name)
        (Path(local_dir) / name).parent.mkdir(exist_ok=True)
        return str(shutil.copy(hub[spec] / name, Path(local_dir) / name))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    assert default_recipe("some/first", nudity) == "salun-sd14-nudity"
    assert default_recipe("some/second", nudity) == "salun-sd"
    assert asked == ["model_index.json", "text_encoder/config.json"] * 2
