"""Files of tensors: what programs wrap around a state dict, and that no pickle is executed."""

from __future__ import annotations

import builtins
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from erase.formats.tensors import read_metadata, read_tensors, save_tensors
from erase.runtime.errors import UserError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.5]).half()}


def same(found: dict[str, Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[k], STATE[k]) for k in STATE)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": {"state_dict": s}, "optimizer": {"step": torch.ones(2)}},
        lambda s: {"model_state_dict": OrderedDict(s), "lr": 0.1},
        lambda s: {"unet": s},
        lambda s: {"unet": s, "modifier_token": {}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}},
    ],
)
def test_what_programs_wrap_around_a_state_dict(wrap: Any, tmp_path: Path) -> None:
    torch.save(wrap(STATE), tmp_path / "x.pt")
    assert same(read_tensors(tmp_path / "x.pt"))


def test_a_prefix_of_some_names_is_a_name(tmp_path: Path) -> None:
    save_file({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "x.safetensors")
    assert read_tensors(tmp_path / "x.safetensors").keys() == {"module.a", "b"}
    save_file({f"module.{k}": v for k, v in STATE.items()}, tmp_path / "x.safetensors")
    assert same(read_tensors(tmp_path / "x.safetensors"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "holds 'list', not a state dict"),
        (torch.ones(3), "holds 'Tensor', not a state dict"),
        ({}, "holds an empty dictionary"),
        ({"epoch": 3, "lr": 0.1}, "holds a dictionary with 'epoch', 'lr', not a state dict"),
        ({f"key {i}": i for i in range(5000)}, "'key 1' and 4998 more"),
        ({"unet": STATE, "modifier_token": {"<new>": torch.ones(2)}}, "a trained modifier_token"),
        ({"unet": STATE, "text_encoder": {"a": torch.ones(2)}}, "a trained text_encoder"),
        ({"a": torch.eye(2).to_sparse()}, "'a' in a form other than plain numbers"),
    ],
)
def test_what_a_file_holds_is_said_shortly(content: Any, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(UserError, match=said) as error:
        read_tensors(tmp_path / "x.pt")
    assert len(str(error.value).replace(str(tmp_path), "")) < 300


def test_tied_weights_are_saved_each_on_its_own(tmp_path: Path) -> None:
    table = torch.arange(6.0).reshape(2, 3)
    torch.save({"in": table, "out": table, "none": torch.empty(0)}, tmp_path / "x.pt")
    found = read_tensors(tmp_path / "x.pt")
    save_tensors(tmp_path / "x.safetensors", found, {})
    saved = read_tensors(tmp_path / "x.safetensors")
    assert torch.equal(saved["in"], table)
    assert torch.equal(saved["out"], table)


def test_views_of_one_storage_are_saved_each_on_its_own(tmp_path: Path) -> None:
    whole = torch.arange(12.0)
    torch.save({"a": whole[:8], "b": whole[4:]}, tmp_path / "views.ckpt")
    save_tensors(tmp_path / "x.safetensors", read_tensors(tmp_path / "views.ckpt"), {})
    found = read_tensors(tmp_path / "x.safetensors")
    assert torch.equal(found["a"], whole[:8]) and torch.equal(found["b"], whole[4:])


def test_what_only_is_named_a_pickle_is_read_as_what_it_is(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "x.ckpt", {"format": "pt"})
    assert same(read_tensors(tmp_path / "x.ckpt"))
    assert read_metadata(tmp_path / "x.ckpt") == {"format": "pt"}


def test_a_pointer_of_git_lfs_is_said_to_be_one(tmp_path: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4265380512\n"
    for name in ("x.safetensors", "x.ckpt"):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match="is a git-lfs pointer.*'git lfs pull'"):
            read_tensors(tmp_path / name)


class Harm:
    """Calls whatever it is given when a careless reader unpickles it."""

    def __init__(self, call: Any, *given: Any) -> None:
        self.call, self.given = call, given

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.given


class Restored:
    """Makes a file where its state is restored, or where it is made anew."""

    def __new__(cls, *mark: str) -> Restored:
        for name in mark:
            Path(name).touch()
        return super().__new__(cls)

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __getnewargs__(self) -> tuple[str]:
        return (self.mark,)

    def __setstate__(self, state: dict[str, Any]) -> None:
        Path(state["mark"]).touch()


HOSTILE: dict[str, Callable[[str], Any]] = {
    "os": lambda mark: Harm(os.system, f"touch {mark}"),
    "eval": lambda mark: Harm(builtins.eval, f"open({mark!r}, 'w')"),
    "exec": lambda mark: Harm(builtins.exec, f"open({mark!r}, 'w')"),
    "open": lambda mark: Harm(builtins.open, mark, "a"),
    "attribute": lambda mark: Harm(getattr, Harm(__import__, "os"), "system"),
    "method": lambda mark: Harm(Path.touch, Path(mark)),
    "restored": Restored,
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_pickle_is_executed(name: str, protocol: int, tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "x.ckpt"
    content = {"state_dict": STATE, "callbacks": [HOSTILE[name](str(mark))]}
    torch.save(content, file, pickle_protocol=protocol)
    mark.unlink(missing_ok=True)
    assert same(read_tensors(file))
    assert not mark.exists()
    if name in ("open", "restored"):  # what a careless reader does
        torch.load(file, weights_only=False)
        assert mark.exists()


def program(*ops: bytes) -> bytes:
    return b"\x80\x02" + b"".join(ops) + b"."


@pytest.mark.parametrize(
    "pickled",
    [
        # BUILD with slots on everything that the reader has made itself, to change what it does.
        program(b"ctorch._utils\n_rebuild_tensor_v2\n", b"N}X\x04\x00\x00\x00evilK\x01s\x86b"),
        program(b"ccollections\nOrderedDict\n", b"N}X\x06\x00\x00\x00updateK\x01s\x86b"),
        program(b"cx\ny\n", b"N}X\x0c\x00\x00\x00__setstate__K\x01s\x86b"),
        program(b"cx\ny\n", b")\x81", b"}X\x04\x00\x00\x00what}sb"),
        program(b"cos\nsystem\n", b"X\x02\x00\x00\x00id\x85R"),
        program(b"cx\ny\n", b")R", b"(K\x01K\x02e"),
        program(b"cx\ny\n", b")R", b"(K\x01K\x02u"),
        program(b"ctorch\nFloatStorage\n", b")R"),
        program(b"X\x01\x00\x00\x00aQ"),
        program(b"K\x01K\x02K\x03K\x04tQ"),
    ],
)
def test_hand_written_programs_change_nothing(pickled: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/version", "3\n")
    with pytest.raises(UserError):
        read_tensors(tmp_path / "x.pt")
    test_lightning_files_open(tmp_path)
    assert not hasattr(OrderedDict, "evil")


def test_lightning_files_open(tmp_path: Path) -> None:
    """Beside the weights lies an object of a class that is not installed."""
    name = "absent.callbacks"
    kind = type("ModelCheckpoint", (dict,), {"__module__": name})
    parts = {part: types.ModuleType(part) for part in ("absent", name)}
    setattr(parts[name], kind.__name__, kind)
    sys.modules.update(parts)
    try:
        big = torch.arange(24.0).reshape(4, 6)
        views = {"view": big[1:3, ::2], "turned": big.T, "none": torch.empty(0)}
        values = {**STATE, **views, "p": torch.nn.Parameter(big), "i": torch.tensor(7)}
        callbacks = {kind: {}, "x": kind(a=1)}
        torch.save({"state_dict": values, "callbacks": callbacks}, tmp_path / "l.ckpt")
    finally:
        for part in parts:
            del sys.modules[part]
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "l.ckpt", weights_only=True)
    found = read_tensors(tmp_path / "l.ckpt")
    assert found.keys() == values.keys()
    assert all(torch.equal(found[k], v) and found[k].dtype == v.dtype for k, v in values.items())


def test_whole_models_and_old_files_are_said_to_be_such(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pt")
    with pytest.raises(UserError, match=r"an object of 'torch.nn.modules.linear.Linear'"):
        read_tensors(tmp_path / "m.pt")
    torch.save({"a": Harm(print)}, tmp_path / "o.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="more than plain tensors, in a format too old"):
        read_tensors(tmp_path / "o.pt")
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "t.pt")
    with pytest.raises(UserError, match="TorchScript program, which is not run"):
        read_tensors(tmp_path / "t.pt")


def test_a_file_that_can_not_be_written_is_the_systems_error(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(2)}, {})


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_others_may_read_what_the_umask_allows(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(2)}, {})
    finally:
        os.umask(old)
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == 0o640
