"""Reads the tensors of a pickle that names classes nobody has; what the file names is never called.

Of a pickle, ordered dictionaries and references to stored tensors are built, by this module's own
code. Every other name stands for a class of ``Inert``, and is neither imported nor looked up;
calling it, filling it or restoring its state does nothing.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor


def _nothing(*_: object, **__: object) -> None:
    """What every method that a pickle may call does."""


class Inert:
    """Stands for whatever a pickle names; ``what`` says what that is."""

    __slots__ = ()
    what = ""

    def __new__(cls, *_: object, **__: object) -> Inert:
        return object.__new__(cls)

    __init__ = _nothing
    __setstate__ = append = extend = add = __setitem__ = _nothing

    def __call__(self, *_: object, **__: object) -> Inert:
        return self


class Stored:
    """A tensor in the archive: a view of a storage (dtype, key, elements)."""

    __slots__ = ("offset", "shape", "storage", "stride")
    __setstate__ = _nothing

    def __init__(
        self, storage: object, offset: object, shape: object, stride: object, *_: object
    ) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride


class _Rebuild:
    """Takes the place of PyTorch's functions that build a tensor."""

    __slots__ = ()
    __setstate__ = _nothing

    def __call__(self, *args: object) -> object:
        return Stored(*args) if len(args) >= 4 else None


class _Parameter(_Rebuild):
    """Takes the place of the function that makes a parameter of a tensor."""

    __slots__ = ()

    def __call__(self, *args: object) -> object:
        return args[0] if args else None


_KNOWN: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _Rebuild(),
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    ("torch._utils", "_rebuild_parameter"): _Parameter(),
    ("torch", "DoubleStorage"): torch.float64,
    ("torch", "FloatStorage"): torch.float32,
    ("torch", "HalfStorage"): torch.float16,
    ("torch", "BFloat16Storage"): torch.bfloat16,
    ("torch", "LongStorage"): torch.int64,
    ("torch", "IntStorage"): torch.int32,
    ("torch", "ShortStorage"): torch.int16,
    ("torch", "CharStorage"): torch.int8,
    ("torch", "ByteStorage"): torch.uint8,
    ("torch", "BoolStorage"): torch.bool,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream, encoding="latin1")
        self._stand_ins: dict[tuple[str, str], type[Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        key = (module, name)
        if key in _KNOWN:
            return _KNOWN[key]
        if key not in self._stand_ins:
            what = {"__slots__": (), "what": f"{module}.{name}"}
            self._stand_ins[key] = type("Inert", (Inert,), what)
        return self._stand_ins[key]

    def persistent_load(self, pid: Any) -> tuple[torch.dtype, str, int]:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError("a storage of an unknown type")
        return dtype, str(key), int(count)


@dataclass(frozen=True)
class Archive:
    """A file that ``torch.save`` wrote, open for reading.

    Attributes:
        zip: the archive.
        prefix: of its records, with a slash at the end.
        content: what was saved, its tensors as ``Stored``, its other objects as ``Inert``.
    """

    zip: zipfile.ZipFile
    prefix: str
    content: Any
    _storages: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def open(cls, file: Path) -> Archive:
        """Reads everything but the tensors' values.

        Raises:
            Exception: whatever a damaged file makes of it.
        """
        opened = zipfile.ZipFile(file)
        (record,) = [n for n in opened.namelist() if n.endswith("/data.pkl") and n.count("/") == 1]
        prefix = record.removesuffix("data.pkl")
        order = f"{prefix}byteorder"
        if order in opened.namelist() and opened.read(order) != b"little":
            raise ValueError("numbers of another byte order")
        with opened.open(record) as stream:
            return cls(opened, prefix, _Unpickler(stream).load())

    def tensor(self, stored: Stored) -> Tensor:
        """The values of a tensor.

        Raises:
            Exception: whatever a damaged file makes of it.
        """
        storage: Any = stored.storage
        dtype, key, count = storage
        if key not in self._storages:
            record = self.zip.getinfo(f"{self.prefix}data/{key}")
            size = count * dtype.itemsize
            if not 0 <= size <= record.file_size:
                raise ValueError(f"storage {key} is cut short")
            values = bytearray(size)
            with self.zip.open(record) as stream:
                stream.readinto(values)  # type: ignore[attr-defined]
            flat = torch.frombuffer(values, dtype=dtype) if size else torch.empty(0, dtype=dtype)
            self._storages[key] = flat
        flat = self._storages[key]
        view: tuple[Any, Any, Any] = (stored.shape, stored.stride, stored.offset)
        return torch.as_strided(flat, *view)
