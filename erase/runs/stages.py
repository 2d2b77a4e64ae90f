"""The erasing stages of a run: images, mask, train. Each reads the folder and writes into it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.diffusion.losses import saliency_losses
from erase.images.files import MANIFEST, read_image, read_manifest
from erase.images.make import Shared, generate
from erase.images.request import Request
from erase.methods import load_method
from erase.prompts.groups import Role
from erase.recipes.recipe import as_dict, keys
from erase.runs.job import ROLES, Job, listed
from erase.runtime import processes
from erase.runtime.errors import UserError
from erase.runtime.files import write_text
from erase.runtime.progress import each, progress
from erase.runtime.seeding import generator

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion
    from erase.formats.base import Base
    from erase.unlearn.fit import Watch
    from erase.unlearn.mask import Mask


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
    from erase.diffusion.data import Encoded, TrainingData, embed_all, encode_files

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
        diffusion=diffusion,
        images=encoded,
        pairs=both,
        retain_prompts=tuple(prompts["retain"]),
        words=job.words(),
        c=embed_all(diffusion, prompts["forget"]),
        anchor_c=embed_all(diffusion, prompts["anchor"]),
        retain_c=embed_all(diffusion, prompts["retain"]),
        empty_c=diffusion.unconditional().float(),
        batch_size=job.recipe.batch_size,
        seed=job.seed,
        size=job.recipe.size,
        retain_empty=job.recipe.retain_empty,
    )


def _parts(job: Job) -> tuple[slice, ...]:
    """The rows of each batch that this process takes, one after the other."""
    from erase.unlearn.parts import WHOLE, shares

    needs = load_method(job.recipe.method).NEEDS
    if not needs.loop or not needs.mean:
        return (WHOLE,)
    own = job.recipe.batch_size // processes.count()
    at_once = job.recipe.micro_batch or (1 if job.recipe.low_memory else own)
    return shares(own // at_once, processes.index(), processes.count())


def make_mask(
    job: Job, diffusion: Diffusion, data: TrainingData, run: Path, model: Mapping[str, str]
) -> Mask:
    """Measures saliency and writes ``mask.safetensors``."""
    from erase.unlearn.mask import Mask, union
    from erase.unlearn.saliency import accumulate

    r = job.recipe
    params = diffusion.scoped(r.scope)
    facts = {k: v for k, v in as_dict(r).items() if k in keys("mask")}
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
    from erase.unlearn.fit import Fit, Settings
    from erase.unlearn.optimizer import written

    r = job.recipe
    origin = base.denoiser_state() if r.low_memory else None
    fit = Fit(
        Settings(r.steps, r.lr, r.optimizer, r.weight_decay, r.checkpoint_every, r.lr_schedule),
        mask,
        run,
        acc,
        key,
        _parts(job),
        origin,
        watch=watch,
    )
    load_method(r.method).erase(diffusion, data, r.config, fit)
    if origin is not None:
        return written(origin, mask, fit.masters)
    return dict(diffusion.denoiser.state_dict())
