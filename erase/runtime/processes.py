"""Several processes at one run: who does what, and who writes.

Work is planned as for one process, in whole batches, and then dealt out: what a batch holds never
depends on how many processes there are. Every process goes through the same stages; the first one
alone writes what is not an image or a measurement of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from erase.runtime.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


def _group() -> Any:
    """torch.distributed where processes have met, else None; torch is not imported for it."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available():
        return None
    return torch.distributed if torch.distributed.is_initialized() else None


def count() -> int:
    """How many processes have met."""
    group = _group()
    return int(group.get_world_size()) if group else 1


_settled = False


def settle() -> None:
    """Says that whoever meets has met: from now on a process without others is the first."""
    global _settled
    _settled = True


def index() -> int:
    """This process's number, from 0; also before they have met."""
    group = _group()
    if group:
        return int(group.get_rank())
    return 0 if _settled else int(os.environ.get("RANK", "0"))


def refuse_several() -> None:
    """For commands that take one process.

    Raises:
        UserError: several have met, or were launched and have not met yet.
    """
    launched = max(count(), int(os.environ.get("WORLD_SIZE", "1")))
    if launched > 1:
        raise UserError(
            f"{launched} processes were launched, but this command runs in one: start it with "
            "'erase', or 'accelerate launch --num_processes 1'."
        )


PATIENCE = 30.0
"""Seconds that the others give the first process to report a problem they all have."""


def let_the_first_speak() -> None:
    """Holds back what every process finds by itself, before they have met.

    A launcher ends all as soon as one has ended, so a process that left without a word could
    silence the first. Once the first has spoken, the launcher ends this one where it waits;
    where nobody does, the problem is this process's own and is its to tell.
    """
    if count() == 1 and not is_main():
        time.sleep(PATIENCE)


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""
    return index() == 0


def deal(items: Sequence[T]) -> list[T]:
    """This process's share of a plan, the items taking turns."""
    return list(items[index() :: count()]) if count() > 1 else list(items)


def wait() -> None:
    """Until all are here."""
    if count() > 1:
        _group().barrier()


def leave() -> None:
    """At the end, once nobody is waited for any more."""
    if count() > 1:
        _group().destroy_process_group()


def agree(problem: str | None) -> None:
    """Raises the first process's problem in all of them, so that none waits for it.

    Raises:
        UserError: it has one.
    """
    if count() > 1:
        told: list[Any] = [problem]
        _group().broadcast_object_list(told)
        problem = told[0]
    if problem is not None:
        raise UserError(problem)


def first(value: Callable[[], T]) -> T:
    """What the first process finds, told to all; the others don't look."""
    told: list[Any] = [value() if is_main() else None]
    if count() > 1:
        _group().broadcast_object_list(told)
    found: T = told[0]
    return found


def gather(own: Mapping[str, T]) -> dict[str, T]:
    """Every process's entries together, the same for all."""
    if count() == 1:
        return dict(own)
    parts: list[Any] = [None] * count()
    _group().all_gather_object(parts, dict(own))
    return {key: value for part in parts for key, value in part.items()}


def add(tensors: Iterable[Tensor]) -> None:
    """Sums each tensor over the processes, in place."""
    if count() > 1:
        for tensor in tensors:
            sent = _sendable(tensor)
            _group().all_reduce(sent)
            if sent is not tensor:
                tensor.copy_(sent)


def _sendable(tensor: Tensor) -> Tensor:
    """The tensor where the group can send it: NCCL knows no CPU, where some networks may lie."""
    if tensor.device.type == "cpu" and _group().get_backend() == "nccl":
        return tensor.cuda()
    return tensor


MESSAGE = 1 << 25
"""Numbers from which on a message is sent: more of them at a time would only take memory."""


def average(tensors: Sequence[Tensor]) -> None:
    """Averages tensors over the processes, in place, many in one message."""
    if count() == 1:
        return
    waiting: list[Tensor] = []
    numbers = 0
    for place, tensor in enumerate(tensors, 1):
        waiting.append(tensor)
        numbers += tensor.numel()
        if place == len(tensors) or numbers >= MESSAGE:
            _average(waiting)
            waiting, numbers = [], 0


def _average(tensors: Sequence[Tensor]) -> None:
    import torch

    flat = _sendable(torch.cat([t.reshape(-1) for t in tensors]))
    _group().all_reduce(flat)
    flat /= count()
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
