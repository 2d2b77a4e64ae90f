"""What the erasing stages depend on, checked: a ``Job``, and what each stage reads, hashed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from erase import processes
from erase.captions import captions
from erase.concepts import Concept, belongs, pairs
from erase.errors import UserError
from erase.files import digest, sha256
from erase.held_out import retain_rows
from erase.images import image_files
from erase.methods import Role, load_method
from erase.notes import note
from erase.recipe import Recipe, as_dict
from erase.sampling import check_sampling
from erase.wording import check_prompts, cut_off, training_prompts
from erase.words import fold

if TYPE_CHECKING:
    from erase.diffusion import Diffusion
    from erase.sampling import Sampler

T = TypeVar("T")

ROLES: tuple[Role, ...] = ("forget", "retain", "anchor")


class Target(NamedTuple):
    """One concept and what is answered instead."""

    concept: Concept
    anchor: Concept

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The prompts (c, c')."""
        return pairs(self.concept, self.anchor)


@dataclass(frozen=True)
class Job:
    """Everything that the erasing stages depend on, checked.

    Attributes:
        recipe: the settings.
        concept: what to forget.
        anchor: what to answer instead.
        also: further concepts to forget in the same run.
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
    also: tuple[Target, ...] = ()

    @property
    def targets(self) -> tuple[Target, ...]:
        """All concepts to forget, each with its anchor."""
        return (Target(self.concept, self.anchor), *self.also)

    @property
    def name(self) -> str:
        """What is forgotten, in words."""
        return " + ".join(t.concept.name for t in self.targets)

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The prompts (c, c'), the concepts taking turns: pair i is that of concept i mod n."""
        return tuple(_turns([target.pairs() for target in self.targets]))

    def words(self) -> tuple[str, ...]:
        """What names the concept in each of the pairs."""
        own = [target.concept.word for target in self.targets]
        return tuple(own[i % len(own)] for i in range(len(self.pairs())))

    def forgets(self, prompt: str, labels: Mapping[str, str]) -> bool:
        """Whether a prompt is one of a concept to forget."""
        return any(belongs(prompt, labels, target.concept) for target in self.targets)

    def retain_prompts(self) -> list[str]:
        """The prompts c^r; the anchor's own where the concept says so. Sets of several concepts
        take turns."""
        sources: dict[Any, list[str]] = {}
        for concept, _ in self.targets:
            rows = retain_rows(concept, self.retain)
            kept = [r.prompt for r in rows if not self.forgets(r.prompt, r.labels)]
            sources.setdefault(self.retain or concept.retain, kept)
        own = [prompts for prompts in sources.values() if prompts]
        if not own:
            raise UserError(
                f"No retained prompt is left beside {self.name}: choose another --retain."
            )
        return _turns(own)

    def trained_prompts(self) -> frozenset[str]:
        """What is retained in training, as ``words.fold`` spells it: judging it would tell
        nothing of what was not trained on."""
        own = self.folder("retain")
        told = captions(own, image_files(own)) if own else []
        return frozenset(fold(text) for text in (*self.retain_prompts(), *told) if text)

    def places(self) -> list[str]:
        """A folder name for each concept, all different."""
        names: list[str] = []
        for concept, _ in self.targets:
            name = slug(concept.name)
            names.append(f"{name}-{len(names) + 1}" if name in names else name)
        return names

    def roles(self) -> tuple[Role, ...]:
        """The images that the mask and the method need."""
        return roles_of(self.recipe)

    def folder(self, role: Role) -> Path | None:
        """The user's own images of a role."""
        return {"forget": self.forget_folder, "retain": self.retain_folder}.get(role)

    def sampler(self) -> Sampler:
        """How images are made, for training and evaluation alike."""
        from erase.sampling import Sampler

        r = self.recipe
        return Sampler(r.sampler, r.sampling_steps, r.guidance_scale, r.size)


def roles_of(recipe: Recipe) -> tuple[Role, ...]:
    """The images that the mask and the method of a recipe need."""
    needs = load_method(recipe.method).NEEDS
    needed = set(needs.images)
    needed -= {r for r, key in needs.weighed.items() if not getattr(recipe.config, key)}
    if recipe.mask == "saliency":
        needed.add("forget")
    return tuple(role for role in ROLES if role in needed)


def _turns(each: Sequence[Sequence[T]]) -> list[T]:
    """One of each in turn, until the longest is through; shorter ones begin again."""
    return [own[i % len(own)] for i in range(max(map(len, each))) for own in each]


def slug(text: str) -> str:
    """A folder name made of a model, concept or recipe name."""
    name = "".join(c if c.isalnum() else "-" for c in text.lower().rsplit("/", 1)[-1])
    return "-".join(part for part in name.split("-") if part)[:60] or "run"


SALIENCY_KEYS = (
    *("mask", "scope", "ratio", "saliency_guidance", "saliency_sum", "saliency_batch"),
    "low_memory",
)
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
    "low_memory",
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
    if job.also:
        shared["concepts"] = len(job.targets)
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
    """Hashes of the networks' weights, whatever files they came from, and of the rest.

    ``settings`` covers what else decides the images: configurations, the noise schedule, the
    tokenizers' vocabularies.
    """
    from erase.weights import fingerprint

    p = diffusion.pipeline
    networks = {n.replace("unet", "denoiser"): net for n, net in diffusion.networks.items()}
    texts = [encoder.config.to_dict() for _, encoder in diffusion.text.encoders]
    configs = [p.unet.config, p.vae.config, p.scheduler.config, *texts]
    told = [{k: v for k, v in c.items() if k not in _NO_EFFECT and k[0] != "_"} for c in configs]
    words = [
        [sorted(tokenizer.get_vocab().items()), tokenizer.pad_token_id]
        for tokenizer, _ in diffusion.text.encoders
    ]
    zeros = p.config.get("force_zeros_for_empty_prompt", False)
    settings = digest(json.loads(json.dumps([told, words, zeros], default=str)))
    return {name: fingerprint(net) for name, net in networks.items()} | {"settings": settings}


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
                "metadata.jsonl or metadata.csv (file_name, text) or in a .txt or .caption beside "
                "it."
            )
        texts = [text or offered[0] for text in found]
    return [(str(f.resolve()), t, sha256(f)) for f, t in zip(files, texts, strict=True)]


def check(job: Job, diffusion: Diffusion) -> None:
    """Refuses what can't work with this model and these processes.

    Raises:
        UserError: prompts that the model reads as the same or not to the end of what matters (see
            ``wording.check_prompts``), a size the autoencoder can't take, a sampler that does not
            suit the model, a batch that can't be shared out, or a prompt without the word that the
            method looks for.
    """
    check_prompts(job, diffusion.text)
    _check_batch(job)
    check_images(job, diffusion)
    if told := cut_off(diffusion.text, training_prompts(job)):
        note(told)
    needs = load_method(job.recipe.method).NEEDS
    if job.recipe.low_memory and not needs.mean:
        note(
            f"the loss of {job.recipe.method} is one over the whole batch, which --low-memory does "
            "not change: lower --batch-size for less memory."
        )
    if needs.word:
        diffusion.token_positions([c for c, _ in job.pairs()], job.words())
        for concept, _ in job.targets:
            if concept.kind == "text" and len(concept.word.split()) > 2:
                note(
                    f"every word of '{concept.word}' counts as the concept's: put its own in "
                    "brackets, as in 'a photo of a [church]'."
                )


def check_images(job: Job, diffusion: Diffusion) -> None:
    """Refuses images that the model can't make; see ``check``."""
    size = job.recipe.size or diffusion.size
    if size % diffusion.stride:
        raise UserError(f"--size {size} is not divisible by {diffusion.stride}: choose another.")
    check_sampling(as_dict(job.recipe), diffusion.pipeline.scheduler)


def check_settings(job: Job) -> None:
    """Refuses what can't work with any model, before anything is made.

    Raises:
        UserError: a concept that is its own anchor; a package that is not installed; several
            concepts that don't go together, or with the settings.
    """
    recipe = job.recipe
    job.pairs()
    if recipe.optimizer == "adam8bit" and find_spec("bitsandbytes") is None:
        raise UserError(
            "--optimizer adam8bit needs bitsandbytes: pip install -e '.[8bit]' in erase's "
            "clone, or use adam."
        )
    for role in ("forget", "retain"):
        if job.folder(role) and role not in job.roles():
            raise UserError(
                f"--{role}-folder has no effect: {recipe.name} trains on no {role} images. Leave "
                "it out, or choose another --recipe."
            )
    if not job.also:
        return
    each = [target.pairs() for target in job.targets]
    for i, own in enumerate(each):
        for other in each[:i]:
            if {c for c, _ in own} & {c for c, _ in other}:
                raise UserError(f"A concept is given twice ({job.name}): name each once.")
    if recipe.forget_images < len(each):
        raise UserError(
            f"--forget-images {recipe.forget_images} is less than one for each of {len(each)} "
            "concepts: ask for more."
        )
    if getattr(recipe.config, "inversion_steps", 0):
        raise UserError(
            "A textual inversion learns one concept: give one --concept, or --inversion-steps 0."
        )
    if job.forget_folder:
        raise UserError("--forget-folder holds one concept's images: give one --concept.")
    if job.recipe.mask == "random":
        raise UserError(
            "A random mask is as large as one concept's, and several have the union of theirs: "
            "give one --concept, or another --mask."
        )
    names = [target.concept.name for target in job.targets]
    for concept, anchor in job.targets:
        if anchor.name in names:
            raise UserError(
                f"'{concept.name}' would become '{anchor.name}', which is to be forgotten too: "
                "choose another --anchor for it."
            )


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
