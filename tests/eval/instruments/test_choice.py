from __future__ import annotations

from pathlib import Path

import pytest

from erase.eval.instruments.choice import Instruments, axis_specs, check_axes, spec_identity
from erase.runtime.errors import UserError


def test_one_judge_for_each_axis() -> None:
    text = "object=timm:vit@a,b=c.pth,style=open_clip:ViT-B-32"
    assert axis_specs(text) == {
        "object": "timm:vit@a",
        "b": "c.pth",
        "style": "open_clip:ViT-B-32",
    }
    assert axis_specs("open_clip:ViT-B-32@x=y.pt") is None
    assert axis_specs("") is None
    with pytest.raises(UserError, match="names an axis twice"):
        axis_specs("object=timm:a,object=timm:b")


def test_every_axis_is_checked_early(tmp_path: Path) -> None:
    Instruments("object=timm:vit,style=open_clip:ViT-B-32").check()
    with pytest.raises(UserError, match="'vit' is not a judge"):
        Instruments("object=timm:vit,style=vit").check()
    for spec in ("object=mini,style=timm:vit", "object=timm:vit,style="):
        with pytest.raises(UserError, match="is not a judge"):
            Instruments(spec).check()
    rows = [{"object": "church", "style": "ink"}]
    check_axes("object=timm:vit", rows)
    with pytest.raises(UserError, match="'objekt', which --judge names. Did you mean 'object'"):
        check_axes("objekt=timm:vit,style=timm:vit", rows)
    with pytest.raises(UserError, match="is not a perceptual distance"):
        Instruments(lpips="vgg19").check()


def test_a_changed_file_is_another_judge(tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    file.write_bytes(b"1")
    other = tmp_path / "b.pth"
    other.write_bytes(b"2")
    first, second = (f"object=timm:vit@{f},style=timm:vit" for f in (file, other))
    assert spec_identity(first) != spec_identity(second)
    assert str(spec_identity(first)).endswith(",style=timm:vit")
    (tmp_path / "a.pth.labels.txt").write_text("x")
    renamed = spec_identity(first)
    assert renamed not in (spec_identity(second), f"object=timm:vit@{file},style=timm:vit")
    (tmp_path / "a.pth.labels.txt").unlink()
    assert spec_identity(first) != renamed
