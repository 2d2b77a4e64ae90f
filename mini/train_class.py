"""Makes the class-conditional miniature again: ``python -m erase.mini.train_class``.

The twelve objects at 32 px, told by label: the drawings of the bundled model, halved. Resumable;
same seed, same threads: same weights.

``--without NAME`` trains one that never saw a class: exact unlearning, the yardstick of erasing it.
It keeps the label, which then means nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from erase.formats.folder import settle_precision
from erase.mini import world
from erase.mini.optimise import COUNT, optimise, pictures
from erase.runtime.errors import clipped, nearest

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, UNet2DModel

SIDE = 32
"""Side of the images in px."""
NULL = len(world.OBJECTS)
"""Label of the null class, that of no class in particular."""
STEPS = 8000
RATES = (1.5e-3, 7.5e-4)
"""Learning rate of each round; after one alone the judge takes too many images for others."""
BATCH = 32


def build_denoiser() -> UNet2DModel:
    """A U-Net in pixels, 1.1 M weights, attention at 8 x 8."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=SIDE,
        in_channels=3,
        out_channels=3,
        block_out_channels=(16, 48, 80),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=16,
        num_class_embeds=NULL + 1,
    )


def build_scheduler() -> DDIMScheduler:
    """The linear schedule of DDPM (arXiv 2006.11239), epsilon predicted."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear"
    )


def drawings(work: Path, without: str | None = None) -> tuple[Tensor, Tensor]:
    """What it learns from: images (N, 3, 32, 32) in [-1, 1] and labels (N,), without a class."""
    images, objects, _ = pictures("generator", COUNT, work)
    if without is not None:
        seen = objects != world.OBJECT_LABELS.index(without)
        images, objects = images[seen], objects[seen]
    return F.interpolate(images.float(), SIDE, mode="area") / 127.5 - 1, objects


def train(work: Path, seed: int, steps: int = STEPS, without: str | None = None) -> UNet2DModel:
    """Denoising with min-SNR weights (arXiv 2303.09556), 10 % null class, averaged weights.

    Args:
        work: folder of what lies in between.
        seed: of every draw.
        steps: of the optimizer, in each round.
        without: label of a class whose pictures are left out.

    Returns:
        The denoiser, in fp32.
    """
    x, objects = drawings(work, without)
    abar = build_scheduler().alphas_cumprod
    torch.manual_seed(seed)
    unet = build_denoiser()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(len(x), (BATCH,), generator=generator)
        noise = torch.randn(BATCH, *x.shape[1:], generator=generator)
        t = torch.randint(1000, (BATCH,), generator=generator)
        dropped = torch.rand(BATCH, generator=generator) < 0.1
        labels = objects[index].masked_fill(dropped, NULL)
        a = abar[t].view(-1, 1, 1, 1)
        predicted = unet(a.sqrt() * x[index] + (1 - a).sqrt() * noise, t, labels).sample
        snr = (a / (1 - a)).flatten()
        weight = snr.clamp(max=5) / snr
        value: Tensor = (weight * (predicted - noise).square().mean((1, 2, 3))).mean()
        return value

    stage = f"class-{seed}" if without is None else f"never-{without}-{seed}"
    stage += "" if steps == STEPS else f"-{steps}"  # another training, which resumes none of these
    for number, lr in enumerate(RATES):
        name = f"{stage}-{number}"
        optimise(name, unet, loss, steps=steps, lr=lr, work=work, seed=seed, ema=0.998)
    return unet.eval()


def export(unet: Any, folder: Path) -> None:
    """Writes denoiser, scheduler and the names of the labels, fp16."""
    shutil.rmtree(folder, ignore_errors=True)
    unet.half().save_pretrained(folder / "unet")
    build_scheduler().save_pretrained(folder / "scheduler")
    settle_precision(folder)
    classes = {"classes": list(world.OBJECT_LABELS), "null": NULL, "guidance": 2.0, "steps": 25}
    (folder / "classes.json").write_text(json.dumps(classes, indent=2) + "\n")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m erase.mini.train_class", description=__doc__)
    add = parser.add_argument
    add("--work", type=Path, help="folder of what lies in between (default: below runs/)")
    add("--out", type=Path, help="gets the model's folder (default: that of the bundled weights)")
    add("--seed", type=int, default=0, help="random seed (default: 0)")
    add("--threads", type=int, default=2, help="threads to compute with (default: 2)")
    add(
        "--steps",
        type=int,
        default=STEPS,
        help=f"of each of {len(RATES)} rounds (default: {STEPS})",
    )
    add("--without", help="a class to leave out")
    args = parser.parse_args(argv)
    if args.without and args.without not in world.OBJECT_LABELS:
        known = world.OBJECT_LABELS
        parser.error(
            f"There is no class '{clipped(args.without)}': choose from {', '.join(known)}."
            f"{nearest(args.without, known)}"
        )
    if args.out is None and (args.without, args.seed, args.steps) != (None, 0, STEPS):
        parser.error("This is not the bundled model: add --out, a folder for it.")
    out = args.out or world.HERE / "weights"
    name = f"never-{args.without}-{args.seed}" if args.without else "class"
    work = args.work or Path("runs") / f"mini-{name}"
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    export(train(work, args.seed, args.steps, args.without), out / name)
    print(out / name)


if __name__ == "__main__":
    main()
