"""Makes the bundled model and its judges again: ``python -m erase.mini.train``.

Stages, each resumable: pictures, vae, text, unet, judges, export, bars. Same seed, same threads:
same weights. Everything in between lands in ``--work``; the result in ``--out``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erase.files import atomic, write_json
from erase.mini import world
from erase.mini.bars import as_text, measure
from erase.mini.export import export_judges, export_model
from erase.mini.models import (
    FeatureNet,
    build_clip,
    build_judge,
    build_scheduler,
    build_text_encoder,
    build_tokenizer,
    build_unet,
    build_vae,
    seeded,
)

COUNT = 336
"""Pictures per cell of the 12 x 4 grid and split: 16,128 in all."""
Loss = Callable[[int, torch.Generator], Tensor]


def optimise(
    name: str,
    modules: nn.Module,
    loss: Loss,
    *,
    steps: int,
    lr: float,
    work: Path,
    seed: int,
    weight_decay: float = 0.01,
    ema: float = 0.0,
    every: int = 250,
) -> None:
    """Minimises ``loss(step, generator)`` with AdamW, warm-up and cosine decay; resumable.

    Every step draws from a generator of its own, seeded by (seed, stage, step), so that a stage
    that was cut off ends with the weights it would have had. With ``ema`` > 0 the averaged
    weights are left in ``modules``.
    """
    from tqdm import tqdm

    final = work / f"{name}.pt"
    part = work / f"{name}.part.pt"
    if final.exists():
        modules.load_state_dict(torch.load(final, weights_only=True))
        return
    optimizer = torch.optim.AdamW(modules.parameters(), lr=lr, weight_decay=weight_decay)
    average = {k: v.detach().clone() for k, v in modules.state_dict().items()}
    start = 0
    if part.exists():
        state = torch.load(part, weights_only=True)
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        average, start = state["average"], state["step"]
    modules.train()
    salt = sum(map(ord, name))
    recent: list[float] = []
    bar = tqdm(range(start, steps), initial=start, total=steps, desc=name, mininterval=10)
    for step in bar:
        warm = min(1.0, (step + 1) / (0.03 * steps))
        scale = warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = lr * scale
        value = loss(step, seeded(seed, salt, step))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        if ema:
            decay = min(ema, (step + 1) / (step + 10))
            for k, v in modules.state_dict().items():
                average[k].lerp_(v, 1 - decay) if v.is_floating_point() else average[k].copy_(v)
        recent = [*recent[-49:], value.item()]
        bar.set_postfix(loss=f"{sum(recent) / len(recent):.4f}", refresh=False)
        if (step + 1) % every == 0:
            _save(
                part,
                {
                    "modules": modules.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "average": average,
                    "step": step + 1,
                },
            )
    if ema:
        modules.load_state_dict(average)
    _save(final, modules.state_dict())
    part.unlink(missing_ok=True)


def _save(file: Path, state: object) -> None:
    with atomic(file) as part:
        torch.save(state, part)


def pictures(split: world.Split, count: int, work: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Renders ``count`` pictures per cell.

    Returns:
        uint8 pictures (N, 3, 64, 64), object index (N,), style index (N,).
    """
    cells = [(o, s) for o in range(len(world.OBJECTS)) for s in range(len(world.STYLES))]
    objects = torch.tensor([o for o, _ in cells]).repeat_interleave(count)
    styles = torch.tensor([s for _, s in cells]).repeat_interleave(count)
    file = work / f"pictures-{split}-{count}.npy"
    if not file.exists():
        drawn = [
            world.render(world.OBJECT_LABELS[o], world.STYLE_LABELS[s], k, split)
            for o, s in cells
            for k in range(count)
        ]
        with atomic(file) as part, part.open("wb") as stream:
            np.save(stream, np.stack(drawn))
    return torch.from_numpy(np.load(file)).permute(0, 3, 1, 2), objects, styles


def unit(pictures: Tensor) -> Tensor:
    """uint8 to float in [-1, 1]."""
    return pictures.float() / 127.5 - 1


def train_vae(work: Path, seed: int) -> nn.Module:
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
        edges = sum(
            (torch.diff(y, dim=d) - torch.diff(x, dim=d)).abs().mean() for d in (2, 3)
        )
        return (y - x).abs().mean() + 0.5 * edges + 1e-4 * posterior.kl().mean() / z[0].numel()

    optimise("vae", vae, loss, steps=3200, lr=1.5e-3, work=work, seed=seed, ema=0.995)
    return vae.eval()


def prompt_bank(templates: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """Every caption of the world with its object and style index (-1: style left open)."""
    bank = [
        (world.caption(t, o, s), i, j)
        for t in templates
        for i, o in enumerate(world.OBJECT_LABELS)
        for j, s in enumerate(world.STYLE_LABELS)
    ]
    plain = [
        (world.caption(t, o), i, -1)
        for t in world.PLAIN_TEMPLATES
        for i, o in enumerate(world.OBJECT_LABELS)
    ]
    return bank + plain


def tokenize(tokenizer: Callable[..., object], prompts: list[str]) -> Tensor:
    """Token ids (N, 77), padded as Stable Diffusion does."""
    encoded = tokenizer(
        prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    )
    return encoded.input_ids  # type: ignore[attr-defined, no-any-return]


def train_text(work: Path, seed: int) -> nn.Module:
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
    return encoder.eval()


@torch.no_grad()
def encode_all(vae: nn.Module, images: Tensor, batch: int = 64) -> Tensor:
    """Posterior means and standard deviations (N, 2, 4, 16, 16)."""
    parts = []
    for i in range(0, len(images), batch):
        posterior = vae.encode(unit(images[i : i + batch])).latent_dist
        parts.append(torch.stack([posterior.mean, posterior.std], 1))
    return torch.cat(parts)


def train_unet(work: Path, seed: int, vae: nn.Module, encoder: nn.Module, steps: int) -> nn.Module:
    """Denoising with min-SNR weights (arXiv 2303.09556), 10 % empty prompts, averaged weights."""
    images, objects, styles = pictures("generator", COUNT, work)
    file = work / "latents.pt"
    if not file.exists():
        _save(file, encode_all(vae, images))
    latents = torch.load(file, weights_only=True)
    scale = 1 / latents[:, 0].std()
    vae.register_to_config(scaling_factor=round(float(scale), 5))
    scale = torch.tensor(vae.config.scaling_factor)
    tokenizer = build_tokenizer(work / "tokenizer")
    bank = prompt_bank(world.TEMPLATES)
    with torch.no_grad():
        prompts = [p for p, _, _ in bank] + [""]
        ids = tokenize(tokenizer, prompts)
        embeds = torch.cat([encoder(i).last_hidden_state for i in ids.split(256)])
    rows: dict[tuple[int, int], list[int]] = {}
    for row, (_, o, s) in enumerate(bank):
        rows.setdefault((o, s), []).append(row)
    scheduler = build_scheduler()
    abar = scheduler.alphas_cumprod
    torch.manual_seed(seed)
    unet = build_unet()
    # A fifth faster where the processor has bf16 arithmetic, several times slower elsewhere.
    fast = "avx512_bf16" in _cpu_flags()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(len(latents), (32,), generator=generator)
        mean, std = latents[index].unbind(1)
        noise, jitter = torch.randn(2, *mean.shape, generator=generator)
        x0 = (mean + std * jitter) * scale
        t = torch.randint(1000, (32,), generator=generator)
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
        return (weight * (predicted.float() - noise).square().mean((1, 2, 3))).mean()

    optimise("unet", unet, loss, steps=steps, lr=6e-4, work=work, seed=seed, ema=0.9985)
    return unet.eval()


def _cpu_flags() -> str:
    file = Path("/proc/cpuinfo")
    return file.read_text() if file.exists() else ""


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, noise and brightness as an autoencoder leaves them; pictures in [0, 1]."""
    sigma = torch.rand((), generator=generator) * 1.2
    if sigma > 0.3:
        taps = torch.exp(-0.5 * (torch.arange(-2.0, 3.0) / sigma).square())
        taps = (taps / taps.sum()).view(1, 1, 1, 5).expand(3, 1, 1, 5)
        x = F.conv2d(F.pad(x, (2, 2, 0, 0), mode="reflect"), taps, groups=3)
        x = F.conv2d(F.pad(x, (0, 0, 2, 2), mode="reflect"), taps.transpose(2, 3), groups=3)
    noise = torch.randn(x.shape, generator=generator)
    level = 0.06 * torch.rand(len(x), 1, 1, 1, generator=generator)
    gain = 1 + 0.1 * (torch.rand(len(x), 3, 1, 1, generator=generator) - 0.5)
    return (x * gain + level * noise).clamp(0, 1)


def train_judges(work: Path, seed: int) -> dict[str, nn.Module]:
    """Object, style and strict judges, the feature network and the tiny CLIP."""
    images, objects, styles = pictures("judge", COUNT, work)
    cells = objects * len(world.STYLES) + styles
    sides = {"object": 128, "style": 128, "strict": 128}

    def batch(generator: torch.Generator, blur: bool, size: int) -> tuple[Tensor, Tensor]:
        index = torch.randint(len(images), (size,), generator=generator)
        x = images[index].float() / 255
        return index, augment(x, generator) if blur else x

    judges: dict[str, nn.Module] = {}
    for name, labels in (("object", objects), ("style", styles), ("strict", objects)):
        torch.manual_seed(seed)
        net = build_judge(int(labels.max()) + 1)

        def judge_loss(
            step: int, generator: torch.Generator, net=net, labels=labels, name=name
        ) -> Tensor:
            index, x = batch(generator, name != "strict", 48)
            x = F.interpolate(x, sides[name], mode="bilinear", antialias=True)
            logits = net((x - 0.5) / 0.5)
            return F.cross_entropy(logits, labels[index], label_smoothing=0.02)

        optimise(name, net, judge_loss, steps=1200, lr=4e-3, work=work, seed=seed)
        judges[name] = net.eval()

    torch.manual_seed(seed)
    features = FeatureNet(len(world.OBJECTS) * len(world.STYLES))

    def feature_loss(step: int, generator: torch.Generator) -> Tensor:
        index, x = batch(generator, True, 64)
        return F.cross_entropy(features.head(features(x)), cells[index])

    optimise("features", features, feature_loss, steps=1000, lr=2e-3, work=work, seed=seed)
    judges["features"] = features.eval()

    import open_clip

    torch.manual_seed(seed)
    clip = build_clip()
    bank = prompt_bank(world.TEMPLATES)
    ids = open_clip.tokenize([p for p, _, _ in bank])
    rows: dict[tuple[int, int], list[int]] = {}
    for row, (_, o, s) in enumerate(bank):
        rows.setdefault((o, s), []).append(row)

    def clip_loss(step: int, generator: torch.Generator) -> Tensor:
        index, x = batch(generator, True, 96)
        draws = torch.rand(len(index), 2, generator=generator).tolist()
        chosen, labels = [], []
        for i, (p, q) in zip(index.tolist(), draws, strict=True):
            style = -1 if p > 0.85 else int(styles[i])
            options = rows[int(objects[i]), style]
            chosen.append(options[int(q * len(options))])
            labels.append((int(objects[i]), style))
        image, text, temperature = clip((x - 0.5) / 0.5, ids[chosen])
        logits = temperature * image @ text.T
        o = torch.tensor([k[0] for k in labels])
        s = torch.tensor([k[1] for k in labels])
        fits = (objects[index][:, None] == o[None]) & (
            (styles[index][:, None] == s[None]) | (s[None] < 0)
        )
        rows_target = fits.float() / fits.sum(1, keepdim=True)
        cols_target = (fits.float() / fits.sum(0, keepdim=True)).T
        return F.cross_entropy(logits, rows_target) + F.cross_entropy(logits.T, cols_target)

    optimise("clip", clip, clip_loss, steps=1500, lr=1e-3, work=work, seed=seed)
    judges["clip"] = clip.eval()
    return judges


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m erase.mini.train", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/mini-train"))
    parser.add_argument("--out", type=Path, default=world.HERE / "weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unet-steps", type=int, default=9000)
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    vae = train_vae(args.work, args.seed)
    encoder = train_text(args.work, args.seed)
    unet = train_unet(args.work, args.seed, vae, encoder, args.unet_steps)
    export_model(vae, encoder, unet, args.out / "model")
    export_judges(train_judges(args.work, args.seed), args.out / "judges")
    report = measure(args.out)
    write_json(args.work / "bars.json", report)
    print(as_text(report))


if __name__ == "__main__":
    main()
