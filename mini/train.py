"""Makes the bundled model and its judges again: ``python -m erase.mini.train``.

Stages, each resumable: pictures, vae, text, unet, judges, export, bars. Same seed, same threads:
same weights. Everything in between lands in ``--work``; the result in ``--out``.

``--without NAME`` trains the denoiser alone, as one that never saw an object or a style: exact
unlearning, the yardstick of erasing it. Autoencoder and text encoder are the bundled model's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erase.formats.original.tokenizer import build_tokenizer
from erase.mini import world
from erase.mini.bars import as_text, measure
from erase.mini.export import export_denoiser, export_judges, export_model
from erase.mini.judging import train_judges
from erase.mini.networks import build_scheduler, build_text_encoder, build_unet, build_vae
from erase.mini.optimise import COUNT, optimise, pictures, prompt_bank, save
from erase.runtime.errors import UserError, clipped, nearest
from erase.runtime.files import bundled, write_json

ROUNDS = (9000, 6000)
"""Steps of each round of the denoiser's training."""
MIDDLE = (250, 900)
"""Timesteps at which sampling errors cost most, measured by denoising renders from various t."""


def unit(pictures: Tensor) -> Tensor:
    """uint8 to float in [-1, 1]."""
    return pictures.float() / 127.5 - 1


def train_vae(work: Path, seed: int) -> Any:
    """L1 on pixels and on their differences (edges), plus a light KL term."""
    images, _, _ = pictures("generator", COUNT, work)
    torch.manual_seed(seed)
    vae = build_vae()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(len(images), (16,), generator=generator)
        x = unit(images[index])
        posterior = vae.encode(x).latent_dist
        z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
        y = vae.decode(z).sample
        edges = sum((torch.diff(y, dim=d) - torch.diff(x, dim=d)).abs().mean() for d in (2, 3))
        kl = posterior.kl().mean() / z[0].numel()
        value: Tensor = (y - x).abs().mean() + 0.5 * edges + 1e-4 * kl
        return value

    optimise("vae", vae, loss, steps=3200, lr=1.5e-3, work=work, seed=seed, ema=0.995)
    vae.eval()
    return vae


def tokenize(tokenizer: Callable[..., Any], prompts: list[str]) -> Tensor:
    """Token ids (N, 77), padded as Stable Diffusion does."""
    encoded = tokenizer(
        prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    )
    ids: Tensor = encoded.input_ids
    return ids


def train_text(work: Path, seed: int) -> Any:
    """The text encoder learns to tell objects and styles apart, then stays frozen.

    As in Stable Diffusion, where CLIP's text tower is trained before the denoiser. Filler words
    are dropped or swapped at random, so that unseen phrasings are understood.
    """
    tokenizer = build_tokenizer(work / "tokenizer")
    torch.manual_seed(seed)
    encoder = build_text_encoder()
    heads = nn.ModuleDict(
        {"object": nn.Linear(64, len(world.OBJECTS)), "style": nn.Linear(64, len(world.STYLES) + 1)}
    )
    bank = prompt_bank(world.TEMPLATES)
    names = {w for o in world.OBJECTS for w in o.word.split()} | set(world.STYLE_LABELS)
    filler = sorted({w for p, _, _ in bank for w in p.split() if w.strip(",") not in names})

    def loss(step: int, generator: torch.Generator) -> Tensor:
        chosen = [bank[i] for i in torch.randint(len(bank), (64,), generator=generator)]
        prompts = []
        for prompt, _, _ in chosen:
            words: list[str] = []
            draws = torch.rand(len(prompt.split()) + 1, 2, generator=generator)
            for word, (p, q) in zip(prompt.split(), draws.tolist(), strict=False):
                if word in filler and p < 0.1:
                    continue
                words += [filler[int(q * len(filler))], word] if p > 0.9 else [word]
            prompts.append(" ".join(words))
        hidden = encoder(tokenize(tokenizer, prompts)).last_hidden_state
        rows = [len(tokenizer(p).input_ids) - 1 for p in prompts]
        last = hidden[torch.arange(len(rows)), torch.tensor(rows)]
        objects = torch.tensor([o for _, o, _ in chosen])
        styles = torch.tensor([s if s >= 0 else len(world.STYLES) for _, _, s in chosen])
        return F.cross_entropy(heads["object"](last), objects) + F.cross_entropy(
            heads["style"](last), styles
        )

    both = nn.ModuleDict({"encoder": encoder, "heads": heads})
    optimise("text", both, loss, steps=1000, lr=1e-3, work=work, seed=seed)
    encoder.eval()
    return encoder


@torch.no_grad()
def encode_all(vae: Any, images: Tensor, batch: int = 64) -> Tensor:
    """Posterior means and standard deviations (N, 2, 4, 16, 16)."""
    parts = []
    for i in range(0, len(images), batch):
        posterior = vae.encode(unit(images[i : i + batch])).latent_dist
        parts.append(torch.stack([posterior.mean, posterior.std], 1))
    return torch.cat(parts)


def train_unet(
    work: Path,
    seed: int,
    vae: Any,
    encoder: Any,
    rounds: tuple[int, ...] = ROUNDS,
    without: str | None = None,
) -> Any:
    """Denoising with min-SNR weights (arXiv 2303.09556), 10 % empty prompts, averaged weights.

    Trained in rounds, the learning rate falling in each (warm restarts, arXiv 1608.03983). After
    the first, half of the timesteps come from the middle, where outline and side are decided.

    Args:
        work: folder of what lies in between.
        seed: of every draw.
        vae, encoder: trained; the autoencoder is told the factor of its latents where it trains
            with everything.
        rounds: steps of each.
        without: label of an object or a style whose pictures and captions are left out.
    """
    images, objects, styles = pictures("generator", COUNT, work)
    latents, scale = _latents(work, vae, images, known=without is not None)
    bank = prompt_bank(world.TEMPLATES)
    if without is not None:
        seen = torch.tensor(
            [
                without not in (world.OBJECT_LABELS[o], world.STYLE_LABELS[s])
                for o, s in zip(objects.tolist(), styles.tolist(), strict=True)
            ]
        )
        latents, objects, styles = latents[seen], objects[seen], styles[seen]
        bank = [row for row in bank if without not in labels_of(row)]
    embeds = _embeddings(work, encoder, [p for p, _, _ in bank] + [""])
    rows: dict[tuple[int, int], list[int]] = {}
    for row, (_, o, s) in enumerate(bank):
        rows.setdefault((o, s), []).append(row)
    scheduler = build_scheduler()
    abar = scheduler.alphas_cumprod
    torch.manual_seed(seed)
    unet = build_unet()
    # A fifth faster where the processor has bf16 arithmetic, several times slower elsewhere.
    fast = "avx512_bf16" in _cpu_flags()

    def loss(step: int, generator: torch.Generator, middle: int = 0) -> Tensor:
        index = torch.randint(len(latents), (32,), generator=generator)
        mean, std = latents[index].unbind(1)
        noise, jitter = torch.randn(2, *mean.shape, generator=generator)
        x0 = (mean + std * jitter) * scale
        t = torch.randint(1000, (32,), generator=generator)
        t[:middle] = torch.randint(*MIDDLE, (middle,), generator=generator)
        a = abar[t].view(-1, 1, 1, 1)
        draws = torch.rand(32, 2, generator=generator).tolist()
        chosen = []
        for i, (p, q) in zip(index.tolist(), draws, strict=True):
            style = -1 if p > 0.9 else int(styles[i])
            options = rows[int(objects[i]), style]
            chosen.append(len(bank) if p < 0.1 else options[int(q * len(options))])
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            predicted = unet(a.sqrt() * x0 + (1 - a).sqrt() * noise, t, embeds[chosen]).sample
        snr = (a / (1 - a)).flatten()
        weight = snr.clamp(max=5) / snr
        value: Tensor = (weight * (predicted.float() - noise).square().mean((1, 2, 3))).mean()
        return value

    for number, steps in enumerate(rounds):
        name = f"unet-{number}"
        part = partial(loss, middle=16 if number else 0)
        optimise(name, unet, part, steps=steps, lr=6e-4, work=work, seed=seed, ema=0.9985)
    unet.eval()
    return unet


def labels_of(row: tuple[str, int, int]) -> tuple[str, ...]:
    """The object of a caption, and its style where it names one."""
    _, obj, style = row
    return (world.OBJECT_LABELS[obj], *world.STYLE_LABELS[style : style + 1 if style >= 0 else 0])


def _latents(work: Path, vae: Any, images: Tensor, known: bool) -> tuple[Tensor, Tensor]:
    """Moments of the images' latents, kept in ``work``, and the factor that gives them deviation 1,
    which the autoencoder is told unless it is ``known``."""
    file = work / "latents.pt"
    if not file.exists():
        save(file, encode_all(vae, images))
    latents = torch.load(file, weights_only=True)
    if not known:
        scale = 1 / latents[:, 0].std()
        vae.register_to_config(scaling_factor=round(float(scale), 5))
    return latents, torch.tensor(vae.config.scaling_factor)


@torch.no_grad()
def _embeddings(work: Path, encoder: Any, prompts: list[str]) -> Tensor:
    ids = tokenize(build_tokenizer(work / "tokenizer"), prompts)
    return torch.cat([encoder(i).last_hidden_state for i in ids.split(256)])


def _cpu_flags() -> str:
    file = Path("/proc/cpuinfo")
    return file.read_text() if file.exists() else ""


def bundled_networks() -> tuple[Any, Any]:
    """Autoencoder and text encoder of the bundled model, in fp32."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel

    folder = bundled("model")
    made = (
        AutoencoderKL.from_pretrained(folder / "vae"),
        CLIPTextModel.from_pretrained(folder / "text_encoder"),
    )
    for network in made:
        network.float().requires_grad_(False).eval()
    return made


def train_without(name: str, work: Path, seed: int, out: Path) -> Path:
    """Trains and writes the denoiser that never saw ``name``.

    Args:
        name: label of an object or a style.
        work: folder of what lies in between.
        seed: of every draw.
        out: gets ``never-NAME/``, or ``never-NAME-SEED/`` of another seed than 0, with the denoiser
            alone, fp16.

    Returns:
        That folder.

    Raises:
        UserError: there is no such object or style.
    """
    names = (*world.OBJECT_LABELS, *world.STYLE_LABELS)
    if name not in names:
        raise UserError(
            f"The drawn world has no '{clipped(name)}': choose from {', '.join(names)}."
            f"{nearest(name, names)}"
        )
    vae, encoder = bundled_networks()
    unet = train_unet(work, seed, vae, encoder, without=name)
    folder = out / (f"never-{name}-{seed}" if seed else f"never-{name}")
    export_denoiser(unet, folder)
    return folder


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m erase.mini.train", description=__doc__)
    add = parser.add_argument
    add("--work", type=Path, help="folder of what lies in between (default: below runs/)")
    add("--out", type=Path, default=world.HERE / "weights", help="folder of the weights")
    add("--seed", type=int, default=0, help="random seed (default: 0)")
    add("--threads", type=int, default=2, help="threads to compute with (default: 2)")
    add("--without", help="an object or a style: train the denoiser alone, without it")
    args = parser.parse_args(argv)
    # Of one training each: another one would take its finished stages for its own.
    part = f"without-{args.without}-{args.seed}" if args.without else f"seed-{args.seed}"
    work = (args.work or Path("runs") / "mini-train") / part
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    if args.without:
        try:
            print(train_without(args.without, work, args.seed, args.out))
        except UserError as error:
            parser.error(str(error))
        return
    vae = train_vae(work, args.seed)
    encoder = train_text(work, args.seed)
    unet = train_unet(work, args.seed, vae, encoder)
    export_model(vae, encoder, unet, args.out / "model")
    export_judges(train_judges(work, args.seed), args.out / "judges")
    report = measure(args.out)
    write_json(work / "bars.json", report)
    print(as_text(report))


if __name__ == "__main__":
    main()
