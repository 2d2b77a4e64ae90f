"""The erasing stages of a run: images, mask, train. Each reads the folder and writes into it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase import processes
from erase.errors import UserError
from erase.files import write_text
from erase.images import (
    MANIFEST,
    Request,
    Shared,
    generate,
    read_image,
    read_manifest,
)
from erase.job import ROLES, SALIENCY_KEYS, Job, listed
from erase.methods import Role, load_method
from erase.progress import each, progress
from erase.recipe import as_dict
from erase.seeding import cycle, generator

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from erase.checkpoint import Base
    from erase.data import Part, TrainingData
    from erase.diffusion import Diffusion
    from erase.masks import Mask
    from erase.watching import Watch


def make_images(
    job: Job, diffusion: Diffusion, run: Path, shared: Shared | None = None
) -> float | None:
    """Fills ``images/ROLE`` with the base model's images, or lists the user's own.

    Returns:
        Seconds that the shared images took, whichever run made them; None where nothing is shared.
    """
    took: list[float | None] = []
    # torch's CPU generators see 32 bits of a seed; prompt sets stay below 2^31.
    offset = 2**31 + int(generator(job.seed, "images").initial_seed() % 2**29)
    prompts = {
        "forget": [c for c, _ in job.pairs()],
        "retain": job.retain_prompts(),
        "anchor": [a for _, a in job.pairs()],
    }
    (run / "images").mkdir(parents=True, exist_ok=True)
    processes.wait()
    for role in job.roles():
        number = ROLES.index(role)
        count = int(getattr(job.recipe, f"{role}_images"))
        folder = run / "images" / role
        if job.folder(role) is not None:
            problem = None
            if processes.is_main():
                try:
                    _list_images(job, role, folder)
                except UserError as error:
                    problem = str(error)
            processes.agree(problem)
            continue
        requests = [
            Request(
                set=role,
                case_number=i,
                k=0,
                prompt=prompts[role][i % len(prompts[role])],
                seed=offset + number * 2**29 + i,
                role=role,
            )
            for i in range(count)
        ]
        batch = job.recipe.sampling_batch
        generate(diffusion, requests, folder, job.sampler(), batch, f"{role} images", shared)
        if shared:
            took.append(shared.seconds(requests, batch, job.sampler()))
    return None if shared is None or None in took else sum(filter(None, took))


def _list_images(job: Job, role: Role, folder: Path) -> None:
    """Writes a manifest that points at the user's files, every one opened once to be sure."""
    rows = []
    for i, (file, prompt, sha) in enumerate(listed(job, role)):
        read_image(Path(file))
        row = {"file": file, "set": role, "case_number": i, "k": 0, "prompt": prompt}
        row |= {"seed": None, "labels": {}, "role": role, "sha256": sha}
        rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_text(folder / MANIFEST, "".join(rows))


def training_data(job: Job, diffusion: Diffusion, run: Path) -> TrainingData:
    """Encodes the run's images and prompts, once."""
    from erase.data import Encoded, TrainingData, embed_all, encode_files

    size = job.recipe.size or diffusion.size
    both = job.pairs()
    prompts = {
        "forget": [c for c, _ in both],
        "retain": list(dict.fromkeys(job.retain_prompts())),
        "anchor": [a for _, a in both],
    }
    encoded: dict[Role, Encoded] = {}
    for role in job.roles():
        folder = run / "images" / role
        rows = read_manifest(folder)
        texts = [str(r["prompt"]) for r in rows]
        if role == "retain":
            prompts[role] = list(dict.fromkeys(texts))
        # Equal anchor prompts of different pairs are told apart by their turn.
        own = prompts[role]
        index = [
            i % len(own) if own[i % len(own)] == text else own.index(text)
            for i, text in enumerate(texts)
        ]
        files = [folder / str(r["file"]) for r in rows]
        encoded[role] = encode_files(diffusion, files, index, size)
    return TrainingData(
        images=encoded,
        pairs=both,
        retain_prompts=tuple(prompts["retain"]),
        words=job.words(),
        c=embed_all(diffusion, prompts["forget"]),
        anchor_c=embed_all(diffusion, prompts["anchor"]),
        retain_c=embed_all(diffusion, prompts["retain"]),
        empty_c=diffusion.unconditional().float(),
        timesteps=diffusion.timesteps,
        batch_size=job.recipe.batch_size,
        seed=job.seed,
        size=job.recipe.size,
        retain_empty=job.recipe.retain_empty,
        part=_part(job),
    )


def _part(job: Job) -> Part:
    from erase.data import Part

    needs = load_method(job.recipe.method).NEEDS
    if not needs.loop or not needs.mean:
        return Part()
    own = job.recipe.batch_size // processes.count()
    at_once = job.recipe.micro_batch or (1 if job.recipe.low_memory else own)
    return Part(processes.index(), processes.count(), own // at_once)


def saliency_losses(
    diffusion: Diffusion,
    data: TrainingData,
    *,
    w: float,
    batch: int,
    seed: int,
    concept: int = 0,
    concepts: int = 1,
    at_once: int | None = None,
) -> Iterator[Callable[[], Tensor]]:
    """One loss per batch of a single pass over a concept's forget set.

    MSE(ε, (1+w)·ε_θ(x_t|c) - w·ε_θ(x_t|∅)), both branches with gradient at the same x_t and t
    (SalUn's code; w = 0 is the paper's equation 4). Each batch's mean is weighted by its size, so
    that the sum over batches is the full set's gradient. With several concepts, whose pairs take
    turns, ``concept`` of ``concepts`` is the one whose images are looked at. A batch is taken in
    parts of ``at_once`` images, for less memory and the same sum.
    """
    import torch

    from erase.conditioning import join

    images = data.images["forget"]
    own = (images.prompt % concepts == concept).nonzero().flatten()
    order = own[cycle(len(own), len(own), 0, seed, "saliency")]
    empty = data.empty_c

    def loss(rows: Tensor, number: int, part: slice) -> Tensor:
        g = generator(seed, "saliency", number)
        x0, noise = (drawn[part] for drawn in images.draw(rows, g))
        t = torch.randint(data.timesteps, (len(rows),), generator=g)[part].to(x0.device)
        rows = rows[part]
        x_t = diffusion.add_noise(x0, noise, t)
        c = data.c[images.prompt[rows]]
        if w:
            both = join([c, empty.repeat(len(rows))])
            conditional, unconditional = (
                diffusion.predict(torch.cat([x_t, x_t]), torch.cat([t, t]), both).float().chunk(2)
            )
            predicted = (1 + w) * conditional - w * unconditional
        else:
            predicted = diffusion.predict(x_t, t, c)
        wanted = diffusion.target(x0, noise, t)
        return (predicted - wanted).float().square().mean() * len(rows) / batch

    width = at_once or batch
    for number, rows in processes.deal(list(enumerate(order.split(batch)))):
        for start in range(0, len(rows), width):
            part = slice(start, start + width)
            yield lambda rows=rows, number=number, part=part: loss(rows, number, part)  # type: ignore[misc]


def make_mask(
    job: Job, diffusion: Diffusion, data: TrainingData, run: Path, model: Mapping[str, str]
) -> Mask:
    """Measures saliency and writes ``mask.safetensors``."""
    from erase.masks import Mask, union
    from erase.saliency import accumulate
    from erase.weights import scoped

    r = job.recipe
    params = scoped(diffusion.denoiser, r.scope)
    facts = {k: v for k, v in as_dict(r).items() if k in SALIENCY_KEYS}
    provenance: dict[str, Any] = {
        **facts,
        "concept": job.name,
        "base": diffusion.source,
        "fingerprint": model["denoiser"],
        "seed": job.seed,
    }
    if r.mask == "saliency":
        masks = []
        at_once = r.micro_batch or (1 if r.low_memory else r.saliency_batch)
        # The magnitude of a batch's gradient is not that of its parts.
        whole = r.saliency_sum == "absolute" or at_once > r.saliency_batch
        at_once = r.saliency_batch if whole else at_once
        for number, (concept, _) in enumerate(job.targets):
            losses = saliency_losses(
                diffusion,
                data,
                w=r.saliency_guidance,
                batch=r.saliency_batch,
                seed=job.seed,
                concept=number,
                concepts=len(job.targets),
                at_once=at_once,
            )
            images = len(data.images["forget"].prompt) // len(job.targets)
            parts = -(-images // at_once)
            bar = progress("saliency", -(-parts // processes.count()), "part")
            measured = accumulate(
                params, each(losses, bar), r.saliency_sum == "absolute", processes.add
            )
            named = {**provenance, "concept": concept.name}
            masks.append(Mask.top(measured, r.ratio, diffusion.denoiser, named))
            del measured
        mask = masks[0] if len(masks) == 1 else union(*masks)
    else:
        mask = Mask.full(params, diffusion.denoiser, provenance)
        if r.mask == "random":
            mask = mask.random(r.ratio, job.seed)
    if processes.is_main():
        mask.save(run / "mask.safetensors")
    processes.wait()
    return mask


def train(
    job: Job,
    diffusion: Diffusion,
    data: TrainingData,
    mask: Mask,
    run: Path,
    acc: Accelerator,
    key: str,
    base: Base,
    watch: Watch | None = None,
) -> dict[str, Tensor]:
    """Runs the method.

    Args:
        job, diffusion, data, mask: what is trained on what.
        run: the run folder.
        acc: device and precision.
        key: hash of the stage's inputs, so that no other training's checkpoint is taken up.
        base: the model's files, whose values the weights outside the mask keep.
        watch: see ``Fit``.

    Returns:
        The erased denoiser's weights in fp32, by name.
    """
    from erase.fit import Fit, Settings
    from erase.masked import written

    r = job.recipe
    origin = base.denoiser_state() if r.low_memory else None
    fit = Fit(
        Settings(r.steps, r.lr, r.optimizer, r.weight_decay, r.checkpoint_every, r.lr_schedule),
        mask,
        r.scope,
        run,
        acc,
        key,
        data.part,
        origin,
        watch=watch,
    )
    load_method(r.method).erase(diffusion, data, r.config, fit)
    if origin is not None:
        return written(origin, mask, fit.masters)
    return dict(diffusion.denoiser.state_dict())
