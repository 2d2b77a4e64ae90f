"""The erasing stages of a run: images, mask, train. Each reads the folder and writes into it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase import processes
from erase.concepts import Concept, pairs, retain_rows
from erase.errors import UserError
from erase.files import digest, sha256, write_text
from erase.images import (
    MANIFEST,
    Request,
    Shared,
    captions,
    generate,
    image_files,
    read_image,
    read_manifest,
)
from erase.methods import Role, load_method
from erase.recipe import Recipe, as_dict
from erase.seeding import cycle, generator

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from erase.data import Part, TrainingData
    from erase.diffusion import Diffusion, Sampler
    from erase.masks import Mask

ROLES: tuple[Role, ...] = ("forget", "retain", "anchor")


@dataclass(frozen=True)
class Job:
    """Everything that the erasing stages depend on, checked.

    Attributes:
        recipe: the settings.
        concept: what to forget.
        anchor: what to answer instead.
        seed: of every random draw.
        forget_folder, retain_folder: the user's own images; None has the base model make them.
        retain: prompt set to retain instead of the concept's own; None keeps it.
        neighbours: prompt set of its neighbours, likewise.
    """

    recipe: Recipe
    concept: Concept
    anchor: Concept
    seed: int
    forget_folder: Path | None = None
    retain_folder: Path | None = None
    retain: str | None = None
    neighbours: str | None = None

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The prompts (c, c')."""
        return pairs(self.concept, self.anchor)

    def retain_prompts(self) -> list[str]:
        """The prompts c^r; the anchor's own where the concept says so."""
        return [row.prompt for row in retain_rows(self.concept, self.retain)]

    def roles(self) -> tuple[Role, ...]:
        """The images that the mask and the method need."""
        needed = set(load_method(self.recipe.method).NEEDS.images)
        if self.recipe.mask == "saliency":
            needed.add("forget")
        return tuple(role for role in ROLES if role in needed)

    def folder(self, role: Role) -> Path | None:
        """The user's own images of a role."""
        return {"forget": self.forget_folder, "retain": self.retain_folder}.get(role)

    def sampler(self) -> Sampler:
        """How images are made, for training and evaluation alike."""
        from erase.diffusion import Sampler

        r = self.recipe
        return Sampler(r.sampler, r.sampling_steps, r.guidance_scale, r.size)


SALIENCY_KEYS = ("mask", "scope", "ratio", "saliency_guidance", "saliency_sum", "saliency_batch")
SAMPLING_KEYS = ("sampler", "sampling_steps", "guidance_scale", "sampling_batch", "size")
EVALUATION_KEYS = (
    "eval_forget",
    "eval_retain",
    "eval_neighbours",
    "eval_general",
    "eval_empty",
)
TRAINING_KEYS = (
    "method",
    "lr",
    "lr_schedule",
    "optimizer",
    "weight_decay",
    "steps",
    "batch_size",
    "micro_batch",
    "retain_empty",
    "precision",
)


def inputs(job: Job, model: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """By stage, what it reads besides earlier results; see ``runs.Plan``.

    Args:
        job: the run.
        model: fingerprints of the base model's components.
    """
    flat = as_dict(job.recipe)
    folders = {
        f"{role}_folder": [[str(folder.resolve())], *map(list, listed(job, role))]
        for role in job.roles()
        if (folder := job.folder(role))
    }
    counts = {f"{role}_images": flat[f"{role}_images"] for role in job.roles()}
    shared = {"model": dict(model), "seed": job.seed, "pairs": [list(p) for p in job.pairs()]}
    return {
        "images": {
            **shared,
            "retain": job.retain_prompts(),
            **counts,
            **{k: flat[k] for k in SAMPLING_KEYS},
            **folders,
        },
        "mask": {**shared, **{k: flat.get(k) for k in SALIENCY_KEYS}},
        "train": {
            **shared,
            **{k: flat.get(k) for k in TRAINING_KEYS},
            **asdict(job.recipe.config),
        },
    }


_NO_EFFECT = ("transformers_version", "architectures", "dtype", "torch_dtype")
"""Entries of a configuration that say where a model comes from, not what it does."""


def model_fingerprint(diffusion: Diffusion) -> dict[str, str]:
    """Hashes of the three networks' weights, whatever files they came from, and of the rest.

    ``settings`` covers what else decides the images: configurations, the noise schedule, the
    tokenizer's vocabulary.
    """
    from erase.weights import fingerprint

    p = diffusion.pipeline
    networks = {"denoiser": p.unet, "vae": p.vae, "text_encoder": p.text_encoder}
    configs = [p.unet.config, p.vae.config, p.scheduler.config, p.text_encoder.config.to_dict()]
    told = [{k: v for k, v in c.items() if k not in _NO_EFFECT and k[0] != "_"} for c in configs]
    vocabulary = sorted(p.tokenizer.get_vocab().items())
    settings = digest(json.loads(json.dumps([told, vocabulary], default=str)))
    return {name: fingerprint(net) for name, net in networks.items()} | {"settings": settings}


def make_images(job: Job, diffusion: Diffusion, run: Path, shared: Shared | None = None) -> None:
    """Fills ``images/ROLE`` with the base model's images, or lists the user's own."""
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


def listed(job: Job, role: Role) -> list[tuple[str, str, str]]:
    """The user's own images of a role: path, prompt, SHA-256.

    Every forget prompt names the concept, so they are dealt out in turn. A retained image is of
    something in particular: it needs a caption of its own, unless there is one retain prompt.

    Raises:
        UserError: no images, or a retained one that nothing describes.
    """
    own = job.folder(role)
    assert own is not None
    files = image_files(own)
    if role == "forget":
        offered = [c for c, _ in job.pairs()]
        texts = [offered[i % len(offered)] for i in range(len(files))]
    else:
        offered = list(dict.fromkeys(job.retain_prompts()))
        found = captions(own, files)
        if None in found and len(offered) > 1:
            raise UserError(
                f"{files[found.index(None)]} has no caption: describe every retained image in "
                "metadata.jsonl (file_name, text) or in a .txt beside it."
            )
        texts = [text or offered[0] for text in found]
    return [(str(f.resolve()), t, sha256(f)) for f, t in zip(files, texts, strict=True)]


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
        word=job.concept.word,
        c=embed_all(diffusion, prompts["forget"]),
        anchor_c=embed_all(diffusion, prompts["anchor"]),
        retain_c=embed_all(diffusion, prompts["retain"]),
        empty_c=diffusion.embed([""]).float(),
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
    return Part(processes.index(), processes.count(), own // (job.recipe.micro_batch or own))


def saliency_losses(
    diffusion: Diffusion, data: TrainingData, *, w: float, batch: int, seed: int
) -> Iterator[Callable[[], Tensor]]:
    """One loss per batch of a single pass over the forget set.

    MSE(ε, (1+w)·ε_θ(x_t|c) - w·ε_θ(x_t|∅)), both branches with gradient at the same x_t and t
    (SalUn's code; w = 0 is the paper's equation 4). Each batch's mean is weighted by its size, so
    that the sum over batches is the full set's gradient.
    """
    import torch

    images = data.images["forget"]
    count = len(images.prompt)
    order = cycle(count, count, 0, seed, "saliency")
    empty = diffusion.embed([""]).float()

    def loss(rows: Tensor, number: int) -> Tensor:
        g = generator(seed, "saliency", number)
        x0, noise = images.draw(rows, g)
        t = torch.randint(data.timesteps, (len(rows),), generator=g).to(x0.device)
        x_t = diffusion.add_noise(x0, noise, t)
        c = data.c[images.prompt[rows]]
        if w:
            both = torch.cat([c, empty.expand(len(rows), -1, -1)])
            conditional, unconditional = diffusion.predict(
                torch.cat([x_t, x_t]), torch.cat([t, t]), both
            ).chunk(2)
            predicted = (1 + w) * conditional - w * unconditional
        else:
            predicted = diffusion.predict(x_t, t, c)
        wanted = diffusion.target(x0, noise, t)
        return (predicted - wanted).float().square().mean() * len(rows) / batch

    for number, rows in processes.deal(list(enumerate(order.split(batch)))):
        yield lambda rows=rows, number=number: loss(rows, number)  # type: ignore[misc]


def make_mask(
    job: Job, diffusion: Diffusion, data: TrainingData, run: Path, model: Mapping[str, str]
) -> Mask:
    """Measures saliency and writes ``mask.safetensors``."""
    from erase.masks import Mask
    from erase.saliency import accumulate
    from erase.weights import scoped

    r = job.recipe
    params = scoped(diffusion.denoiser, r.scope)
    facts = {k: v for k, v in as_dict(r).items() if k in SALIENCY_KEYS}
    provenance: dict[str, Any] = {
        **facts,
        "concept": job.concept.name,
        "base": diffusion.source,
        "fingerprint": model["denoiser"],
        "seed": job.seed,
    }
    if r.mask == "saliency":
        losses = saliency_losses(
            diffusion, data, w=r.saliency_guidance, batch=r.saliency_batch, seed=job.seed
        )
        count = -(-len(data.images["forget"].prompt) // r.saliency_batch)
        measured = accumulate(
            params, _progress(losses, count), r.saliency_sum == "absolute", processes.add
        )
        mask = Mask.top(measured, r.ratio, diffusion.denoiser, provenance)
    else:
        mask = Mask.full(params, diffusion.denoiser, provenance)
        if r.mask == "random":
            mask = mask.random(r.ratio, job.seed)
    if processes.is_main():
        mask.save(run / "mask.safetensors")
    processes.wait()
    return mask


def _progress(losses: Iterator[Callable[[], Tensor]], count: int) -> Iterator[Callable[[], Tensor]]:
    from tqdm import tqdm

    total, quiet = -(-count // processes.count()), not processes.is_main()
    yield from tqdm(losses, total=total, desc="saliency", unit="batch", disable=quiet)


def train(
    job: Job,
    diffusion: Diffusion,
    data: TrainingData,
    mask: Mask,
    run: Path,
    acc: Accelerator,
    key: str,
) -> None:
    """Runs the method; afterwards the denoiser in memory is the erased one.

    Args:
        job, diffusion, data, mask: what is trained on what.
        run: the run folder.
        acc: device and precision.
        key: hash of the stage's inputs, so that no other training's checkpoint is taken up.
    """
    from erase.fit import Fit, Settings

    r = job.recipe
    mask.check_fits(diffusion.denoiser)
    fit = Fit(
        Settings(r.steps, r.lr, r.optimizer, r.weight_decay, r.checkpoint_every, r.lr_schedule),
        mask,
        r.scope,
        run,
        acc,
        key,
        data.part,
    )
    load_method(r.method).erase(diffusion, data, r.config, fit)


def check(job: Job, diffusion: Diffusion) -> None:
    """Refuses what can't work.

    Raises:
        UserError: concept and anchor are the same, a size the autoencoder can't take, or a batch
            that can't be shared out.
    """
    if any(c == a for c, a in job.pairs()):
        raise UserError(
            f"The anchor equals the concept ('{job.concept.name}'): choose another --anchor."
        )
    _check_batch(job)
    size = job.recipe.size or diffusion.size
    if size % diffusion.stride:
        raise UserError(f"--size {size} is not divisible by {diffusion.stride}: choose another.")


def _check_batch(job: Job) -> None:
    method, size, count = job.recipe.method, job.recipe.batch_size, processes.count()
    needs, micro = load_method(method).NEEDS, job.recipe.micro_batch
    if not needs.loop:
        return
    if not needs.mean:
        if micro is not None and micro != size:
            raise UserError(
                f"The loss of {method} is one over the whole batch, so that it can't be taken in "
                "parts: leave --micro-batch out or lower --batch-size."
            )
        return
    if size % count:
        raise UserError(
            f"--batch-size {size} can't be shared out evenly to {count} processes: choose a "
            "multiple of their number."
        )
    if micro is not None and size // count % micro:
        raise UserError(
            f"--micro-batch {micro} does not divide the {size // count} images of a step"
            f"{' and process' if count > 1 else ''}: choose a divisor."
        )
