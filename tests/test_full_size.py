"""SD 2 and XL at their published sizes, weights drawn at random: one saliency batch and one step
within 24 GB. Slow, and needs 7 GB of disk for a while."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from erase.layout import WEIGHTS, canonical, networks, skeleton, write_state
from tests.published import write_configs

LIMIT = 24e9
PROGRAM = """
import json, resource, sys
from pathlib import Path
from accelerate import Accelerator
from erase.diffusion import Diffusion
from erase.fit import Fit, Settings
from erase.masks import Mask
from erase.methods.salun import Config, erase
from erase.saliency import accumulate
from erase.stages import saliency_losses
from erase.weights import scoped
from tests.methods.data import make_data

d = Diffusion.load(sys.argv[1])
data = make_data(d, "forget", "retain", batch_size=1, side=8)
params = scoped(d.denoiser, sys.argv[2])
losses = saliency_losses(d, data, w=7.5, batch=1, seed=0)
saliency = accumulate(params, [next(losses)])
mask = Mask.top(saliency, 0.5, None, {"scope": sys.argv[2]})
del saliency
fit = Fit(Settings(1, 1e-5), mask, sys.argv[2], Path(sys.argv[3]), Accelerator(cpu=True))
erase(d, data, Config(), fit)
peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
weights = sum(p.numel() for p in d.denoiser.parameters())
row = json.loads((Path(sys.argv[3]) / "train.jsonl").read_text().splitlines()[0])
print(json.dumps({"peak": peak, "weights": weights, "masked": mask.count, "loss": row["loss"]}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "scope", "weights"), [("2", "full", 865_910_724), ("XL", "xattn", 2_567_463_684)]
)
def test_a_step_fits_into_24_gigabytes(kind: str, scope: str, weights: int, tmp_path: Path) -> None:
    folder = write_configs(kind, tmp_path / "model")
    generator = torch.Generator().manual_seed(0)
    for component in networks(folder):
        state = {}
        for name, value in skeleton(folder, component).state_dict().items():
            drawn = torch.empty(value.shape, dtype=torch.bfloat16)
            drawn.normal_(0, 0.02, generator=generator)
            state[canonical(component, name)] = drawn.half()
        write_state(folder / component / WEIGHTS[component], state)
        del state
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), scope, str(tmp_path)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    print(f"\n{kind}: {found['weights'] / 1e6:.1f} M weights, peak {found['peak'] / 1e9:.1f} GB")
    assert found["weights"] == weights
    assert found["peak"] < LIMIT
    assert 0 < found["loss"] < 1e3
