"""Where a run computes."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from erase.runtime import processes
from erase.runtime.errors import UserError
from erase.runtime.notes import note

PATIENCE = timedelta(days=7)
"""How long processes wait for each other, whose shares may differ by hours; the launcher ends all
as soon as one fails."""


def accelerator(device: str, precision: str, deterministic: bool, *, several: bool = False) -> Any:
    """The accelerator that every stage computes on.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32``, ``bf16``, or ``auto``, which is bf16 on a GPU that has it.
        deterministic: the same bits on every run of a GPU.
        several: whether the command takes several processes.

    Raises:
        UserError: the device is not there, or processes were launched that the command can't use.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import (
        GradientAccumulationPlugin,
        InitProcessGroupKwargs,
        parse_flag_from_env,
    )

    for sharding in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{sharding}", "false").lower() == "true":
            raise UserError(
                f"{sharding} shards the weights, which a mask needs whole: use distributed_type "
                "MULTI_GPU, as accelerate_config.yaml does."
            )
    check_device(device)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if precision == "auto":
        kept = device == "auto" and parse_flag_from_env("ACCELERATE_USE_CPU")
        gpu = device in ("auto", "cuda") and not kept and torch.cuda.is_available()
        precision = "bf16" if gpu and torch.cuda.is_bf16_supported() else "fp32"
    AcceleratorState._reset_state(reset_partial_state=False)
    try:
        mixed = "no" if precision == "fp32" else precision
        patient = InitProcessGroupKwargs(timeout=PATIENCE)
        made = Accelerator(
            mixed_precision=mixed,
            cpu=device == "cpu",
            # Batches are split here; a variable of accelerate's would divide every gradient.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[patient],
        )
    except ValueError as error:
        raise UserError(f"--precision {precision} does not work here ({error}).") from error
    processes.settle()
    if not several:
        processes.refuse_several()
    asked = _asked_for()
    if asked > processes.count():
        note(
            f"{asked} processes were asked for, but only {processes.count()} started: accelerate "
            "starts several on CPUs only with ACCELERATE_USE_CPU=true and --multi_gpu."
        )
    return made


def check_device(device: str) -> None:
    """Refuses a device that is not there.

    Raises:
        UserError: it is not.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda was asked for, but torch sees no GPU: use --device cpu.")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError(
            "--device mps was asked for, but torch sees no MPS device: use --device cpu."
        )


SMALLER = "lower --sampling-batch, --batch-size or --micro-batch, or add --low-memory"
"""What makes a run need less memory."""


@contextmanager
def memory_told(remedy: str = SMALLER) -> Iterator[None]:
    """Says in one sentence that the device's memory is full, and what to do.

    Raises:
        UserError: it is.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # Of a GPU, of torch on a CPU, of Apple's, of Python itself.
        signs = ("out of memory", "can't allocate memory")
        full = isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)
        if not full:
            raise
        wanted = re.search(r"allocate (\d+ bytes|[\d.]+ [KMGT]iB)", str(error))
        more = f" ({wanted[1]} more were asked for)" if wanted else ""
        raise UserError(f"The device's memory is full{more}: {remedy}.") from error


def _asked_for() -> int:
    """Processes that 'accelerate launch' was told to start; 1 where it was not told."""
    import psutil  # type: ignore[import-untyped]

    try:
        parent = psutil.Process().parent()
        words = parent.cmdline() if parent else []
    except psutil.Error:
        return 1
    launchers = ("accelerate", "accelerate-launch", "accelerate.commands.launch")
    if not any(Path(word).name in launchers for word in words[:4]):
        return 1
    split = [word.split("=", 1) if word.startswith("--") else [word] for word in words]
    given = dict(itertools.pairwise(itertools.chain.from_iterable(split)))
    count = given.get("--num_processes") or given.get("--num-processes")
    file = given.get("--config_file") or given.get("--config-file")
    if count is None and file and Path(file).is_file():
        text = Path(file).read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^num_processes: *(\d+)", text, re.MULTILINE)
        count = found[1] if found else None
    return int(count) if count and count.isdigit() else 1
