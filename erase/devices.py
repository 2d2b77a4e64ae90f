"""Where a run computes."""

from __future__ import annotations

import os
from typing import Any

from erase.errors import UserError


def accelerator(device: str, precision: str, deterministic: bool) -> Any:
    """The accelerator that every stage computes on.

    Raises:
        UserError: the device is not there, or several processes were launched.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda was asked for, but torch sees no GPU: use --device cpu.")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps was asked for, but torch sees none: use --device cpu.")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    AcceleratorState._reset_state(reset_partial_state=False)
    try:
        mixed = "no" if precision == "fp32" else precision
        made = Accelerator(mixed_precision=mixed, cpu=device == "cpu")
    except ValueError as error:
        raise UserError(f"--precision {precision} does not work here ({error}).") from error
    if made.num_processes > 1:
        raise UserError(
            f"{made.num_processes} processes were launched, but a run takes one: start it with "
            "'erase run' or 'accelerate launch --num_processes 1'."
        )
    return made
