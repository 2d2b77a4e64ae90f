"""Speed and memory of SalUn against the published recipe: ``python -m benchmarks.salun``.

On a CPU, the bundled model: seconds of a training step and of a batch of the saliency pass beside
the plain implementation's (``benchmarks.plain``), taken in turns in one process, and the bytes of
both optimizers. On a GPU (``--device cuda``), SD 1.4's published configuration with random weights
at 512 px, batch 8 + 8, full scope: the same, each mode's steps per second, peak memory and share of
the card's peak FLOP/s, and images per second one at a time and in batches.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import plain
from benchmarks.saliency import SD14
from erase.diffusion.data import Encoded, TrainingData, embed_all
from erase.diffusion.losses import saliency_losses
from erase.diffusion.model import Diffusion
from erase.diffusion.scopes import scoped
from erase.images.request import Sampler, Shot
from erase.methods.salun import loss
from erase.unlearn.fit import Fit, Settings
from erase.unlearn.mask import Mask
from erase.unlearn.optimizer import MaskedOptimizer
from erase.unlearn.parts import shares
from erase.unlearn.saliency import accumulate

RATIO, ALPHA, GUIDANCE, LR = 0.5, 0.5, 7.5, 1e-5
PEAKS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0, "4090": 165.0}
"""Dense bf16 TFLOP/s of the makers' data sheets."""
BARS = {"step": 1.25, "saliency": 1.1}
GPU_BARS = {"step": 1.4, "step bf16": 4.0, "saliency": 1.5, "images": 3.0}
MEMORY_BARS = {"default": 30.0, "micro-batch 1": 15.0, "low memory, 8 bit": 8.0}


@dataclass(frozen=True)
class Bench:
    """A model with random pictures to forget and to retain."""

    diffusion: Diffusion
    data: TrainingData
    forget: plain.Pictures
    retain: plain.Pictures
    anchor: list[str]


def stable_diffusion(device: str) -> Diffusion:
    """SD 1.4's published configuration, weights drawn at random."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    from erase.formats.original.tokenizer import build_tokenizer

    with tempfile.TemporaryDirectory() as place:
        tokenizer = build_tokenizer(Path(place))
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        sample_size=512,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=768,
            intermediate_size=3072,
            num_attention_heads=12,
            num_hidden_layers=12,
            vocab_size=49408,
            bos_token_id=49406,
            eos_token_id=49407,
        )
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(**SD14),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    found = Diffusion(pipeline, "sd-1.4, random", torch.device(device))
    for network in found.networks.values():
        network.to(device).requires_grad_(False).eval()
    return found


def prepare(diffusion: Diffusion, batch: int, seed: int = 0) -> Bench:
    """Two batches of random pictures of each role, encoded once for our side."""
    g = torch.Generator().manual_seed(seed)
    count = 2 * batch
    shape = (count, diffusion.size, diffusion.size, 3)
    bytes_ = [torch.randint(256, shape, generator=g, dtype=torch.uint8) for _ in range(2)]
    prompts = ["a photo of a church", "a photo of a radio", "a photo of a truck"]
    encoded = []
    for pixels in bytes_:
        parts = [diffusion.encode(part.numpy()).float() for part in pixels.split(batch)]
        encoded.append(Encoded(torch.cat(parts), torch.zeros(count, dtype=torch.long)))
    c = [embed_all(diffusion, [prompt]) for prompt in prompts]
    data = TrainingData(
        diffusion=diffusion,
        images={"forget": encoded[0], "retain": encoded[1]},
        pairs=((prompts[0], prompts[2]),),
        retain_prompts=(prompts[1],),
        words=("church",),
        c=c[0],
        anchor_c=c[2],
        retain_c=c[1],
        empty_c=diffusion.unconditional().float(),
        batch_size=batch,
        seed=seed,
    )
    raw = [pixels[:batch].permute(0, 3, 1, 2).float() / 127.5 - 1 for pixels in bytes_]
    return Bench(
        diffusion,
        data,
        plain.Pictures(raw[0], [prompts[0]] * batch),
        plain.Pictures(raw[1], [prompts[1]] * batch),
        [prompts[2]] * batch,
    )


def random_mask(diffusion: Diffusion) -> Mask:
    """Which weights move does not matter to speed or memory."""
    params = scoped(diffusion.denoiser, "full")
    return Mask.full(params, diffusion.denoiser, {"scope": "full", "fingerprint": "-"}).random(
        RATIO, 0
    )


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Of one call, the device's own work included."""
    _settle(device)
    began = time.perf_counter()
    work()
    _settle(device)
    return time.perf_counter() - began


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turns(
    ours: Callable[[], Any], theirs: Callable[[], Any], n: int, device: Any
) -> list[float]:
    """Median seconds of both, one call of each in turn after one to warm up."""
    times: list[list[float]] = [[], []]
    for turn in range(n + 1):
        for work, found in zip((ours, theirs), times, strict=True):
            value = seconds(work, device)
            if turn:
                found.append(value)
    return [statistics.median(found) for found in times]


def our_step(
    bench: Bench, optimizer: MaskedOptimizer, index: int, dtype: torch.dtype | None = None
) -> None:
    """A step as ``erase.unlearn.fit`` takes it."""
    d = bench.diffusion
    with torch.autocast(d.device.type, dtype, enabled=dtype is not None):
        b, r = bench.data.batch(index)
        anchor_c = bench.data.anchor_c[b.prompt]
        forget, retain = loss(d, b, anchor_c, r, alpha=ALPHA, anchor_model=d, retain_model=None)
    torch.autograd.backward(forget + retain)
    optimizer.step()
    optimizer.zero_grad()


def adam(params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr=LR, fused=True)


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of an optimizer's moments."""
    tensors = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor)]
    return sum(v.numel() * v.element_size() for v in tensors if v.numel() > 1)


def against_plain(make: Callable[[], Diffusion], batch: int, n: int) -> dict[str, Any]:
    """Steps and saliency batches of ours and of the plain implementation, in turns, in fp32."""
    ours, theirs = (prepare(make(), batch) for _ in range(2))
    device, found = ours.diffusion.device, {}
    for network in theirs.diffusion.networks.values():  # the layout that diffusers loads
        torch.nn.Module.to(network, memory_format=torch.contiguous_format)
    mask = random_mask(ours.diffusion)
    params = scoped(ours.diffusion.denoiser, "full")
    masked = MaskedOptimizer(params, mask, adam)
    dense = {name: mask.dense(name).float() for name in mask.shapes}
    theirs.diffusion.denoiser.requires_grad_(True)
    full = torch.optim.Adam(theirs.diffusion.denoiser.parameters(), lr=LR)
    turn = iter(range(10**6))
    for name, dtype in (("step", None), ("step bf16", torch.bfloat16)):
        if dtype is not None and device.type != "cuda":
            continue
        a, b = in_turns(
            lambda dtype=dtype: our_step(ours, masked, next(turn), dtype),  # type: ignore[misc]
            lambda: plain.step(
                theirs.diffusion, full, dense, theirs.forget, theirs.retain, theirs.anchor, ALPHA
            ),
            n,
            device,
        )
        found[name] = {"ours": a, "plain": b, "ratio": b / a}
    moments, bits = state_bytes(masked.optimizer), sum(v.numel() for v in mask.bits.values())
    found["optimizer bytes"] = {
        "ours": moments + bits,
        "plain": state_bytes(full),
        "bar": RATIO * state_bytes(full) + bits,
    }
    masked.close()
    data = ours.data
    a, b = in_turns(
        lambda: accumulate(
            params, saliency_losses(ours.diffusion, data, w=GUIDANCE, batch=batch, seed=0)
        ),
        lambda: plain.saliency(theirs.diffusion, [theirs.forget] * 2, GUIDANCE),
        max(n // 2, 3),
        device,
    )
    found["saliency"] = {"ours": a, "plain": b, "ratio": b / a}
    return found


def forward_flops(diffusion: Diffusion) -> int:
    """Of the denoiser, for one image."""
    from torch.utils.flop_counter import FlopCounterMode

    side = diffusion.size // diffusion.stride
    x, t = torch.randn(1, 4, side, side), torch.tensor([5])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        diffusion.predict(x.to(diffusion.device), t.to(diffusion.device), diffusion.embed(["x"]))
    return int(counter.get_total_flops())


def modes(make: Callable[[], Diffusion], batch: int, steps: int) -> dict[str, Any]:
    """Steps per second of each mode, trained by ``erase.unlearn.fit`` itself, and the peak memory
    of the steps and of a batch of the saliency pass."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    from erase.methods.salun import Config, erase

    found: dict[str, Any] = {}
    for name, precision, turns, light, optimizer in (
        ("fp32", "no", 1, False, "adam"),
        ("default", "bf16", 1, False, "adam"),
        ("micro-batch 1", "bf16", batch, False, "adam"),
        ("low memory", "no", batch, True, "adam"),
        ("low memory, 8 bit", "no", batch, True, "adam8bit"),
    ):
        if optimizer == "adam8bit" and find_spec("bitsandbytes") is None:
            print(f"{name}: not measured, bitsandbytes is not installed")
            continue
        gc.collect()
        bench = prepare(make(), batch)
        d = bench.diffusion
        flops = forward_flops(d)
        mask = random_mask(d)
        if light:
            d.lighten()
        AcceleratorState._reset_state(reset_partial_state=False)
        accelerator = Accelerator(mixed_precision=precision, cpu=d.device.type == "cpu")
        data = bench.data
        del bench
        if d.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(d.device)
        losses = saliency_losses(d, data, w=GUIDANCE, batch=batch, seed=0, at_once=batch // turns)
        accumulate(scoped(d.denoiser, "full"), itertools.islice(losses, turns))
        with tempfile.TemporaryDirectory() as place:
            settings = Settings(steps, LR, optimizer, checkpoint_every=steps)  # type: ignore[arg-type]
            fit = Fit(settings, mask, Path(place), accelerator, parts=shares(turns))
            erase(d, data, Config(alpha=ALPHA), fit)
            rows = (Path(place) / "train.jsonl").read_text().splitlines()
        times = [json.loads(row)["seconds"] for row in rows]
        each = statistics.median(b - a for a, b in itertools.pairwise(times))
        row: dict[str, Any] = {
            "steps per second": 1 / each,
            "TFLOP/s": 7 * batch * flops / each / 1e12,
        }
        if d.device.type == "cuda":
            row["peak GB"] = torch.cuda.max_memory_allocated(d.device) / 1e9
            row["bar GB"] = MEMORY_BARS.get(name)
        found[name] = row
        del d, data, fit, mask
    return found


def images(diffusion: Diffusion, batch: int, steps: int) -> dict[str, float]:
    """Images per second, one at a time and in batches."""
    sampler = Sampler("dpm++", steps, 7.5)
    shots = [Shot("a photo of a church", seed) for seed in range(batch)]
    alone, together = in_turns(
        lambda: [diffusion.sample([shot], sampler) for shot in shots],
        lambda: diffusion.sample(shots, sampler),
        3,
        diffusion.device,
    )
    return {"alone": batch / alone, "batched": batch / together, "ratio": alone / together}


def main() -> None:
    """Prints a table for people and a line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int, default=8, help="images of each role a step")
    parser.add_argument("--rounds", type=int, default=15, help="calls of each side")
    parser.add_argument("--modes", action="store_true", help="the modes on a CPU too")
    args = parser.parse_args()
    gpu = args.device == "cuda"
    if gpu and not torch.cuda.is_available():
        sys.exit("--device cuda: torch sees no GPU.")

    def make() -> Diffusion:
        torch.manual_seed(0)
        return stable_diffusion("cuda") if gpu else Diffusion.load("mini")

    card = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    bars = GPU_BARS if gpu else BARS
    result: dict[str, Any] = {"device": card, "batch": args.batch}
    result["against plain"] = against_plain(make, args.batch, args.rounds)
    print(f"{card}, batch {args.batch} + {args.batch}")
    for name, row in result["against plain"].items():
        if name == "optimizer bytes":
            print(f"{name}: {row['ours']:,} against {row['plain']:,} (bar {row['bar']:,.0f})")
        else:
            print(
                f"{name}: {row['ours']:.3f} s against {row['plain']:.3f} s, "
                f"{row['ratio']:.2f} times faster (bar {bars[name]})"
            )
    if gpu or args.modes:
        peak = next((v for k, v in PEAKS.items() if k in card), None)
        result["modes"] = modes(make, args.batch, args.rounds)
        for name, row in result["modes"].items():
            memory = ""
            if peak is not None:
                row["share"] = row["TFLOP/s"] / peak
            if "peak GB" in row:
                bar = f" (bar {row['bar GB']:g})" if row["bar GB"] else ""
                memory = f", {row['peak GB']:.1f} GB{bar}"
            share = f", {row['share']:.0%} of the card's bf16 peak" if peak else ""
            print(
                f"{name}: {row['steps per second']:.2f} steps/s{memory}, "
                f"{row['TFLOP/s']:.2f} TFLOP/s{share}"
            )
    if gpu:
        result["images"] = images(make(), 16, 30)
        row = result["images"]
        print(
            f"images/s: {row['batched']:.2f} in batches of 16, {row['alone']:.2f} one at a time, "
            f"{row['ratio']:.1f} times (bar {bars['images']})"
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
