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
    torch.use_deterministic_algorithms(deterministic)
    kept = device != "cpu" and parse_flag_from_env("ACCELERATE_USE_CPU")
    gpu = device in ("auto", "cuda") and not kept and torch.cuda.is_available()
    if precision == "auto":
        precision = "bf16" if gpu and has_bf16() else "fp32"
    fast = gpu and precision == "bf16"
    if fast and not has_bf16():
        raise UserError(f"--precision bf16 {NO_BF16}: leave it out.")
    # What is not autocast is then computed in TF32, as convolutions are anyway.
    torch.set_float32_matmul_precision("high" if fast else "highest")
    # Of several processes the device is settled; alone, an earlier call's would stand.
    several_now = torch.distributed.is_available() and torch.distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=not several_now)
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
    if device not in ("auto", made.device.type):
        raise UserError(
            f"--device {device} was asked for, but accelerate computes on {made.device.type}: "
            "unset ACCELERATE_USE_CPU, or launch the processes for that device."
        )
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


@contextmanager
def settings_kept() -> Iterator[None]:
    """Leaves a caller's settings of torch, and the accelerator that they may have, as they were."""
    import torch
    from accelerate.state import AcceleratorState, PartialState

    states = [(state, dict(state._shared_state)) for state in (PartialState, AcceleratorState)]
    precision = torch.get_float32_matmul_precision()
    strict = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(strict, warn_only=warned)
        for state, before in states:
            if before:  # an accelerator of theirs
                state._shared_state.clear()
                state._shared_state.update(before)


def for_sampling(precision: str) -> str:
    """The precision to sample in, of a model that was trained in another: where the GPU has bf16,
    what is not autocast is computed as then, and elsewhere in fp32."""
    return "auto" if precision == "bf16" else precision


NO_BF16 = "needs a GPU that computes in bf16 (NVIDIA's since Ampere, 2020)"


def has_bf16() -> bool:
    """Whether the GPU computes in bf16 itself; older ones emulate a part and refuse the rest."""
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


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


@contextmanager
def determinism_told() -> Iterator[None]:
    """Says in one sentence that a network can't compute the same bits on every run.

    Raises:
        UserError: it can't.
    """
    try:
        yield
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        raise UserError(
            "A layer of this network can't compute the same bits on every run of a GPU: leave out "
            "--deterministic, or take another --model."
        ) from error


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
