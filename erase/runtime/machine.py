"""What a run records of the machine: peak memory and versions."""

from __future__ import annotations

import ctypes
import gc
import platform
import resource
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@cache
def freeze_libraries() -> None:
    """Keeps the garbage collector from looking at what is imported so far, half a million objects
    that live as long as the process: else each stage would begin with a second of it."""
    gc.collect()
    gc.freeze()


def reset_peak_memory() -> None:
    """Starts counting the peak anew, where the system can."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    # glibc keeps what an earlier stage has freed, which is no need of this one.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        # Linux: resets VmHWM of this process.
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> int:
    """Most memory held since ``reset_peak_memory``, in MiB; on a GPU, of the device.

    Where the system can't reset it, most since the process began.
    """
    import torch

    if torch.cuda.is_initialized() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() // 2**20
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(x for x in lines if x.startswith("VmHWM")).split()[1]) // 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that figures depend on."""
    packages = (
        *("erase-diffusion", "torch", "torchvision", "diffusers", "transformers", "accelerate"),
        *("open_clip_torch", "torchmetrics", "torch-fidelity", "nudenet", "pillow", "numpy"),
    )
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
