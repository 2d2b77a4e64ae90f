"""What adversarial embeddings cost beside SalUn: ``python -m benchmarks.robust``.

SD 1.4's published configuration with random weights, full scope: seconds and peak memory of a
training step of ``salun`` with frozen targets, and of ``salun_robust`` as the recipes of this size
have it, a process for each. On a CPU at 8 × 8 latents in fp32, on a GPU (``--device cuda``) at
64 × 64 in bf16. There, or with ``--relearning``, also with relearning beside the training, which
holds five more copies of the weights, 17 GB.
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

from benchmarks.saliency import peak_gb
from benchmarks.salun import random_mask, stable_diffusion
from erase.diffusion.data import Encoded, TrainingData, embed_all
from erase.diffusion.model import Diffusion
from erase.methods import load_method
from erase.runtime.devices import accelerator
from erase.unlearn.fit import Fit, Settings

ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "salun": ("salun", {"target": "frozen", "retain_target": "frozen", "alpha": 1.0}),
    "robust": ("salun_robust", {}),
    "relearning": ("salun_robust", {"relearn_lr": 5e-5}),
}
STEPS = 3
"""Of which the first is not timed."""


def random_data(diffusion: Diffusion, side: int, batch: int) -> TrainingData:
    """Latents of random pictures, ``side`` × ``side``."""
    g = torch.Generator().manual_seed(0)
    images = {
        role: Encoded(
            torch.randn(2 * batch, 2, 4, side, side, generator=g).to(diffusion.device),
            torch.zeros(2 * batch, dtype=torch.long),
        )
        for role in ("forget", "retain")
    }
    concept, anchor, retained = "a photo of a church", "a photo of a truck", "a photo of a radio"
    c, anchor_c, retain_c = (embed_all(diffusion, [p]) for p in (concept, anchor, retained))
    return TrainingData(
        diffusion=diffusion,
        images=images,  # type: ignore[arg-type]
        pairs=((concept, anchor),),
        retain_prompts=(retained,),
        words=("church",),
        c=c,
        anchor_c=anchor_c,
        retain_c=retain_c,
        empty_c=diffusion.unconditional().float(),
        batch_size=batch,
        seed=0,
    )


def measure(row: str, device: str, batch: int, tiny: bool) -> dict[str, float]:
    """Of one row in this process: seconds and denoiser forwards of a step, peak memory in 10^9
    bytes."""
    diffusion = Diffusion.load("mini", device) if tiny else stable_diffusion(device)
    side = 16 if tiny else 8 if device == "cpu" else 64
    data = random_data(diffusion, side, batch)
    name, given = ROWS[row]
    method = load_method(name)
    with tempfile.TemporaryDirectory() as place:
        acc = accelerator(device, "fp32" if device == "cpu" else "bf16", deterministic=False)
        settings = Settings(steps=STEPS, lr=1e-5, checkpoint_every=1000)
        fit = Fit(settings, random_mask(diffusion), Path(place), acc)
        method.erase(diffusion, data, method.Config(**given), fit)
        rows = [json.loads(row) for row in (Path(place) / "train.jsonl").read_text().splitlines()]
    seconds = (rows[-1]["seconds"] - rows[0]["seconds"]) / (STEPS - 1)
    memory = peak_gb() if device == "cpu" else torch.cuda.max_memory_allocated() / 1e9
    own = method.forwards(method.Config(**given), 1, batch)
    return {"seconds": seconds, "peak_gb": memory, "forwards": own}


def main() -> None:
    """Prints a line for people and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8, help="images of each role a step")
    parser.add_argument("--tiny", action="store_true", help="the bundled model instead")
    parser.add_argument("--relearning", action="store_true", help="also with relearning beside")
    parser.add_argument("--row", choices=tuple(ROWS), help="this one, in this process")
    args = parser.parse_args()
    if args.row:
        print(json.dumps(measure(args.row, args.device, args.batch, args.tiny)))
        return
    found = {}
    every = args.relearning or args.device == "cuda"
    for row in ROWS if every else ("salun", "robust"):
        command = [sys.executable, "-m", "benchmarks.robust", *sys.argv[1:], "--row", row]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[row] = json.loads(done.stdout.splitlines()[-1])
    for row, own in found.items():
        print(f"{row}: {own['seconds']:.2f} s a step, peak {own['peak_gb']:.1f} GB")
    print(json.dumps({"batch": args.batch, "rows": found}))


if __name__ == "__main__":
    main()
