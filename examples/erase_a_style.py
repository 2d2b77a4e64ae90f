"""Erases a style from the bundled model and draws the same prompt before and after.

python examples/erase_a_style.py
"""

import sys

import torch
from torchvision.utils import save_image

import erase


def main(out: str = "runs/no-ink", **settings: object) -> None:
    """Erases; ``settings`` are recipe values, such as ``steps=100``."""
    report = erase.run(model="mini", concept="ink", anchor="flat", out=out, **settings)
    print(f"{report.conclusion}: UA {report.ua}, objects kept {report.cra}")

    shots = [erase.Shot("an ink drawing of a truck", seed=seed) for seed in range(4)]
    sampler = erase.Sampler("dpm++", steps=15, guidance=3.0)
    sides = [erase.Diffusion.load(place) for place in ("mini", f"{out}/model")]
    images = torch.cat([torch.as_tensor(side.sample(shots, sampler)) for side in sides])
    save_image(images.permute(0, 3, 1, 2) / 255, f"{out}/before-above-after.png", nrow=4)


if __name__ == "__main__":
    main(*sys.argv[1:])
