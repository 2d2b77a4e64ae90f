"""Memory at the published sizes of Stable Diffusion 2.1 and XL: ``python -m benchmarks.sizes``.

A pipeline of the published configurations with weights drawn at random, opened as a user's would
be: one saliency batch and one step of SalUn at 8 × 8 latents, batch 1 + 1, fp32, in a process of
its own, whose peak resident memory is printed. Needs 7 GB of disk for a while.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from erase.formats.folder import canonical, networks, skeleton, write_states
from tests.published import write_configs

SIZES = {"2": "full", "XL": "xattn"}
"""By kind, the scope of the mask: XL's full one needs about 31 GB."""
BAR_GB = 24.0
PROGRAM = """
import json, resource, sys
from pathlib import Path
from accelerate import Accelerator
from erase.diffusion.model import Diffusion
from erase.unlearn.fit import Fit, Settings
from erase.unlearn.mask import Mask
from erase.methods.salun import Config, erase
from erase.unlearn.saliency import accumulate
from erase.runs.stages import saliency_losses
from erase.diffusion.scopes import scoped
from tests.methods.data import make_data

d = Diffusion.load(sys.argv[1])
data = make_data(d, "forget", "retain", batch_size=1, side=8)
params = scoped(d.denoiser, sys.argv[2])
losses = saliency_losses(d, data, w=7.5, batch=1, seed=0)
saliency = accumulate(params, [next(losses)])
mask = Mask.top(saliency, 0.5, None, {"scope": sys.argv[2]})
del saliency
fit = Fit(Settings(1, 1e-5), mask, Path(sys.argv[3]), Accelerator(cpu=True))
erase(d, data, Config(), fit)
peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
weights = sum(p.numel() for p in d.denoiser.parameters())
row = json.loads((Path(sys.argv[3]) / "train.jsonl").read_text().splitlines()[0])
print(json.dumps({
    "weights": weights, "scope": sys.argv[2], "peak_gb": peak / 1e9, "masked": mask.count,
    "loss": row["loss"],
}))
"""


def measure(kind: str, scope: str, place: Path) -> dict[str, Any]:
    """Writes the pipeline below ``place`` and runs the program on it.

    Raises:
        RuntimeError: the program failed.
    """
    folder = write_configs(kind, place / "model")
    generator = torch.Generator().manual_seed(0)
    for component in networks(folder):
        state = {}
        for name, value in skeleton(folder, component).state_dict().items():
            drawn = torch.empty(value.shape, dtype=torch.bfloat16)
            drawn.normal_(0, 0.02, generator=generator)
            state[canonical(component, name)] = drawn.half()
        write_states(folder, {component: state})
        del state
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), scope, str(place)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(ran.stderr[-2000:])
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Prints a line for people for each, and a line of JSON."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    found = {}
    for kind, scope in SIZES.items():
        with tempfile.TemporaryDirectory() as place:
            row = found[kind] = measure(kind, scope, Path(place))
        print(
            f"{kind}: {row['weights'] / 1e6:,.1f} M weights, scope {scope}, peak "
            f"{row['peak_gb']:.1f} GB (bar {BAR_GB:g})",
            flush=True,
        )
    print(json.dumps({"bar_gb": BAR_GB, "sizes": found}))


if __name__ == "__main__":
    main()
