"""The erasing stages of a run: images, mask, train. Each reads the folder and writes into it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.diffusion.losses import saliency_losses
from erase.images.files import MANIFEST, read_image, read_manifest
from erase.images.make import Shared, generate
from erase.images.request import Request
from erase.methods import load_method
from erase.prompts.groups import Role
from erase.recipes.recipe import Recipe, as_dict, keys
from erase.runs.run import ROLES, Run, listed
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


def make_images(run: Run, diffusion: Diffusion, shared: Shared | None = None) -> float | None:
    """Fills ``images/ROLE`` with the base model's images, or lists the user's own.

    Returns:
        Seconds that the shared images took, whichever run made them; None where nothing is shared.
    """
    took: list[float | None] = []
    # torch's CPU generators see 32 bits of a seed; prompt sets stay below 2^31.
    offset = 2**31 + int(generator(run.seed, "images").initial_seed() % 2**29)
    prompts = {
        "forget": [c for c, _ in run.pairs()],
        "retain": run.retain_prompts(),
        "anchor": [a for _, a in run.pairs()],
    }
    (run.out / "images").mkdir(parents=True, exist_ok=True)
    processes.wait()
    for role in run.roles():
        number = ROLES.index(role)
        count = int(getattr(run.recipe, f"{role}_images"))
        folder = run.out / "images" / role
        if run.sources.folder(role) is not None:
            problem = None
            if processes.is_main():
                try:
                    _list_images(run, role, folder)
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
        batch = run.recipe.sampling_batch
        generate(diffusion, requests, folder, run.sampler(), batch, f"{role} images", shared)
        if shared:
            took.append(shared.seconds(requests, batch, run.sampler()))
    return None if shared is None or None in took else sum(filter(None, took))


def _list_images(run: Run, role: Role, folder: Path) -> None:
    """Writes a manifest that points at the user's files, every one opened once to be sure."""
    rows = []
    for i, (file, prompt, sha) in enumerate(listed(run, role)):
        read_image(Path(file))
        row = {"file": file, "set": role, "case_number": i, "k": 0, "prompt": prompt}
        row |= {"seed": None, "labels": {}, "role": role, "sha256": sha}
        rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_text(folder / MANIFEST, "".join(rows))


def training_data(run: Run, diffusion: Diffusion) -> TrainingData:
    """Encodes the run's images and prompts, once."""
    from erase.diffusion.data import Encoded, TrainingData, embed_all, encode_files

    size = run.recipe.size or diffusion.size
    both = run.pairs()
    prompts = {
        "forget": [c for c, _ in both],
        "retain": list(dict.fromkeys(run.retain_prompts())),
        "anchor": [a for _, a in both],
    }
    encoded: dict[Role, Encoded] = {}
    for role in run.roles():
        folder = run.out / "images" / role
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
        words=run.words(),
        c=embed_all(diffusion, prompts["forget"]),
        anchor_c=embed_all(diffusion, prompts["anchor"]),
        retain_c=embed_all(diffusion, prompts["retain"]),
        empty_c=diffusion.unconditional().float(),
        batch_size=run.recipe.batch_size,
        seed=run.seed,
        size=run.recipe.size,
        retain_empty=run.recipe.retain_empty,
    )


def _parts(run: Run) -> tuple[slice, ...]:
    """The rows of each batch that this process takes, one after the other."""
    from erase.unlearn.parts import WHOLE, shares

    needs = load_method(run.recipe.method).NEEDS
    if not needs.loop or not needs.mean:
        return (WHOLE,)
    own = run.recipe.batch_size // processes.count()
    at_once = run.recipe.micro_batch or (1 if run.recipe.low_memory else own)
    return shares(own // at_once, processes.index(), processes.count())


def saliency_at_once(recipe: Recipe) -> int:
    """Images of a saliency batch that are taken at a time."""
    at_once = recipe.micro_batch or (1 if recipe.low_memory else recipe.saliency_batch)
    # The magnitude of a batch's gradient is not that of its parts.
    whole = recipe.saliency_sum == "absolute" or at_once > recipe.saliency_batch
    return recipe.saliency_batch if whole else at_once


def make_mask(run: Run, diffusion: Diffusion, data: TrainingData, model: Mapping[str, str]) -> Mask:
    """Measures saliency and writes ``mask.safetensors``."""
    from erase.unlearn.mask import Mask, union
    from erase.unlearn.saliency import accumulate

    r, method = run.recipe, load_method(run.recipe.method)
    part = method.NEEDS.part
    params, module = diffusion.scoped(r.scope, part), diffusion.part(part)
    facts = {k: v for k, v in as_dict(r).items() if k in keys("mask")}
    provenance: dict[str, Any] = {
        **facts,
        "concept": run.name,
        "base": diffusion.source,
        "seed": run.seed,
    }
    if part == "denoiser":
        provenance["fingerprint"] = model["denoiser"]
    if r.mask == "saliency":
        masks = []
        at_once = saliency_at_once(r)
        asked = [data]
        if found := getattr(method, "found", None):
            asked.append(replace(data, c=found(diffusion, data, r.config)))
        for number, target in enumerate(run.targets):
            losses = chain.from_iterable(
                saliency_losses(
                    diffusion,
                    own,
                    w=r.saliency_guidance,
                    batch=r.saliency_batch,
                    seed=run.seed,
                    concept=number,
                    concepts=len(run.targets),
                    at_once=at_once,
                )
                for own in asked
            )
            images = len(data.images["forget"].prompt) // len(run.targets)
            parts = len(asked) * -(-images // at_once)
            bar = progress("saliency", -(-parts // processes.count()), "part")
            measured = accumulate(
                params, each(losses, bar), r.saliency_sum == "absolute", processes.add
            )
            named = {**provenance, "concept": target.concept.name}
            masks.append(Mask.top(measured, r.ratio, module, named))
            del measured
        mask = masks[0] if len(masks) == 1 else union(*masks)
    else:
        mask = Mask.full(params, module, provenance)
        if r.mask == "random":
            mask = mask.random(r.ratio, run.seed)
    if processes.is_main():
        mask.save(run.out / "mask.safetensors")
    processes.wait()
    return mask


def mask_of(run: Run, diffusion: Diffusion) -> Mask:
    """The run's mask; all weights where the model is not made here."""
    from erase.diffusion.scopes import read_mask
    from erase.unlearn.mask import Mask

    if load_method(run.recipe.method).NEEDS.trains:
        return read_mask(run.out / "mask.safetensors")
    return Mask.full(diffusion.scoped(run.recipe.scope), diffusion.denoiser, {})


def train(
    run: Run,
    diffusion: Diffusion,
    data: TrainingData,
    mask: Mask,
    acc: Accelerator,
    key: str,
    base: Base,
    watch: Watch | None = None,
) -> dict[str, Tensor]:
    """Runs the method.

    Args:
        run, diffusion, data, mask: what is trained on what.
        acc: device and precision.
        key: hash of the stage's inputs, so that no other training's checkpoint is taken up.
        base: the model's files, whose values the weights outside the mask keep.
        watch: see ``Fit``.

    Returns:
        The weights of the part that the method moves, fp32, named as ``Layout.joined`` does.
    """
    from erase.unlearn.fit import Fit, Settings
    from erase.unlearn.optimizer import written

    r = run.recipe
    origin = base.denoiser_state() if r.low_memory else None
    fit = Fit(
        Settings(r.steps, r.lr, r.optimizer, r.weight_decay, r.checkpoint_every, r.lr_schedule),
        mask,
        run.out,
        acc,
        key,
        _parts(run),
        origin,
        watch=watch,
    )
    load_method(r.method).erase(diffusion, data, r.config, fit)
    if origin is not None:
        return written(origin, mask, fit.masters)
    return diffusion.state(load_method(r.method).NEEDS.part)
