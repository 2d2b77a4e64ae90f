"""Memory of the saliency pass and of a masked step: ``python -m benchmarks.saliency``.

A denoiser of SD 1.4's published configuration (859.5 M weights, drawn at random, so that nothing
is downloaded) at 8 × 8 latents runs one batch of the saliency pass, both branches of the guided
loss with gradient, then the mask, then one masked step of Adam. Prints the seconds and the peak
resident memory of each; the bar is 24 GB for all.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn.functional import mse_loss

from erase.diffusion.scopes import scoped
from erase.unlearn.mask import Mask
from erase.unlearn.optimizer import MaskedOptimizer
from erase.unlearn.saliency import accumulate

SD14: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "down_block_types": (
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "DownBlock2D",
    ),
    "up_block_types": (
        "UpBlock2D",
        "CrossAttnUpBlock2D",
        "CrossAttnUpBlock2D",
        "CrossAttnUpBlock2D",
    ),
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
"""``unet/config.json`` of CompVis/stable-diffusion-v1-4."""

TINY: dict[str, Any] = {"block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 32}
"""What ``--tiny`` changes."""

GUIDANCE = 7.5


def peak_gb() -> float:
    """Most resident memory this process has held so far, in 10^9 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else peak * 1024) / 1e9


def guided_loss(unet: UNet2DConditionModel, batch: int, seed: int) -> Tensor:
    """MSE(ε, (1+w)·ε_θ(x_t|c) - w·ε_θ(x_t|∅)) on random data at 8 × 8 latents."""
    g = torch.Generator().manual_seed(seed)
    width = int(unet.config.cross_attention_dim)
    x_t, noise = (torch.randn(batch, 4, 8, 8, generator=g) for _ in range(2))
    c = torch.randn(2 * batch, 77, width, generator=g)
    t = torch.randint(1000, (batch,), generator=g)
    both = unet(torch.cat([x_t, x_t]), torch.cat([t, t]), c).sample
    conditional, unconditional = both.chunk(2)
    return mse_loss((1 + GUIDANCE) * conditional - GUIDANCE * unconditional, noise)


def main() -> None:
    """Prints a line for people and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a small denoiser, to try this script")
    parser.add_argument("--batch", type=int, default=8, help="latents per batch")
    parser.add_argument("--ratio", type=float, default=0.5, help="share of the weights that moves")
    args = parser.parse_args()
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**{**SD14, **(TINY if args.tiny else {})})
    # As ``Diffusion.load`` lays it out on a CPU.
    torch.nn.Module.to(unet, memory_format=torch.channels_last)
    unet.requires_grad_(False)
    params = scoped(unet, "full")
    weights = sum(p.numel() for p in params.values())
    stages: dict[str, dict[str, float]] = {"model": {"peak_gb": peak_gb()}}
    began = time.perf_counter()

    def done(stage: str) -> None:
        nonlocal began
        now = time.perf_counter()
        stages[stage] = {"seconds": now - began, "peak_gb": peak_gb()}
        began = now

    saliency = accumulate(params, [lambda: guided_loss(unet, args.batch, 0)])
    done("saliency")
    mask = Mask.top(saliency, args.ratio, unet, {"scope": "full"})
    del saliency
    done("mask")
    optimizer = MaskedOptimizer(params, mask, lambda p: torch.optim.Adam(p, lr=1e-5))
    torch.autograd.backward(guided_loss(unet, args.batch, 1))
    optimizer.step()
    done("masked step")
    parts = ", ".join(
        f"{name} {s['seconds']:.1f} s (peak so far {s['peak_gb']:.1f} GB)"
        for name, s in stages.items()
        if "seconds" in s
    )
    print(
        f"{weights / 1e6:.1f} M weights, batch {args.batch}: {parts}; peak {peak_gb():.1f} GB "
        "(bar 24)"
    )
    print(json.dumps({"weights": weights, "batch": args.batch, "bar_gb": 24, "stages": stages}))


if __name__ == "__main__":
    main()
