"""The stages' own work: networks out of a run's samples."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from erase.classifiers.batches import Pool
from erase.classifiers.fitting import saliency_mask, train, unlearn
from erase.classifiers.models import Classifier, Shape, build_model
from erase.classifiers.unlearning import Unlearning
from erase.formats.tensors import read_metadata, read_tensors, save_tensors
from erase.runs.classifiers.run import ClassifierRun, base_key, retrain_key
from erase.runtime import processes
from erase.runtime.files import atomic, digest
from erase.runtime.fingerprint import fingerprint_state

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from erase.unlearn.mask import Mask

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, eq=False)
class Workshop:
    """A run with the device that it computes on.

    Attributes:
        run: what is to be done.
        accelerator: device, processes and precision.
        shape: what networks are built for.
    """

    run: ClassifierRun
    accelerator: Accelerator
    shape: Shape

    def network(self, spec: str, seed: int) -> Classifier:
        """A network on the device, with the weights of its file or initialised from the seed."""
        made = build_model(spec, self.shape, seed)
        made.network.to(self.accelerator.device)
        return made

    def fixed(self) -> dict[str, Tensor]:
        """What no training moves of the base, by name: weights that require no gradient, and the
        buffers of layers that have no others."""
        network = self.network(self.run.model, _seed(self.run.seed, "base")).network
        found = {n: p.detach() for n, p in network.named_parameters() if not p.requires_grad}
        for name, module in network.named_modules():
            own = list(module.parameters(recurse=False))
            if own and not any(p.requires_grad for p in own):
                buffers = module.named_buffers(name, recurse=False)
                found |= dict(buffers)
        return found

    def opened(self, file: Path) -> Classifier:
        """A network of this run with the weights that ``save`` wrote, in evaluation mode."""
        made = self.network(self.run.architecture, 0)
        made.network.load_state_dict(read_tensors(file))
        made.network.eval()
        return made

    def pool(
        self, numbers: tuple[int, ...], key: tuple[int | str, ...], batch: int, augment: str
    ) -> Pool:
        """Training samples with the labels that they are trained on."""
        import torch

        own = torch.tensor(numbers)
        data, device = self.run.data, self.accelerator.device
        labels = self.run.split.labels(data)[own]
        return Pool(data.train, own, labels, batch, key, device, augment)


def save(file: Path, classifier: Classifier, key: Mapping[str, Any]) -> None:
    """Writes the network's own state dict, whole or not at all; ``holds`` knows it by the key."""
    if processes.is_main():
        with atomic(file) as part:
            save_tensors(part, classifier.network.state_dict(), {"made_of": digest(dict(key))})
    processes.wait()


def holds(file: Path, key: Mapping[str, Any]) -> bool:
    """Whether a file that ``save`` wrote is there, of this key."""
    return file.is_file() and read_metadata(file).get("made_of") == digest(dict(key))


def make_base(shop: Workshop) -> dict[str, float]:
    """Trains the base, or takes it from its file, into ``base/``.

    Returns:
        Samples that it took forward and backward, see ``methods.Method.samples``, and the seconds
        of its training, whichever run did it; nothing where others trained it.
    """
    run = shop.run
    key = base_key(run)
    if run.weights is not None:
        save(run.out / "base" / WEIGHTS, shop.network(run.model, run.seed), key)
        return {}
    draws = (run.seed, "base")
    seconds = train_into(shop, run.out / "base", draws, run.split.train, key, "train")
    return {"samples": 3.0 * run.training.epochs * len(run.split.train), "trained": seconds}


def make_retrained(shop: Workshop) -> dict[str, float]:
    """Trains the models that never saw what is forgotten, into ``retrain/SEED/``.

    Returns:
        As ``make_base``, of one of them; the seconds are a mean.
    """
    run = shop.run
    seconds = []
    (run.out / "retrain").mkdir(parents=True, exist_ok=True)  # of none, too, the stage is finished
    same = shop.fixed()
    fixed = {"fixed": fingerprint_state(same)} if same else {}
    for number in range(run.retrains):
        folder, title = run.out / "retrain" / str(number), f"retrain {number + 1}/{run.retrains}"
        draws, key = (number, "retrain"), {**retrain_key(run, number), **fixed}
        seconds.append(train_into(shop, folder, draws, run.split.retain, key, title))
    if processes.is_main():
        for folder in (f for f in list((run.out / "retrain").iterdir()) if f.name.isdecimal()):
            # More than were asked for, of another time: those of other inputs would mislead.
            if not holds(folder / WEIGHTS, {**retrain_key(run, int(folder.name)), **fixed}):
                shutil.rmtree(folder)
    processes.wait()
    told = {"trained": fmean(seconds)} if seconds else {}
    return {"samples": 3.0 * run.training.epochs * len(run.split.retain), **told}


def train_into(
    shop: Workshop,
    folder: Path,
    draws: tuple[int | str, ...],
    numbers: tuple[int, ...],
    key: Mapping[str, Any],
    title: str,
) -> float:
    """Trains from scratch, or takes what another run of the same shared folder has made.

    Args:
        shop: the run.
        folder: gets ``model.safetensors`` and ``train.jsonl``.
        draws: key of every draw.
        numbers: of the training samples.
        key: what the weights depend on.
        title: of the progress bar.

    Returns:
        Seconds that the training took, whichever run did it.
    """
    from filelock import FileLock

    from erase.unlearn.fit import logged_seconds

    run = shop.run
    place = run.shared / "models" / digest(dict(key))[:16] if run.shared else folder
    place.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place / ".lock")
    if processes.is_main():
        lock.acquire()
    processes.wait()
    try:
        # One looks for all: the others might look after it has written.
        if not processes.first(lambda: holds(place / WEIGHTS, key)):
            classifier = _trained(shop, place, draws, numbers, digest(dict(key)), title, 1.0)
            save(place / WEIGHTS, classifier, key)
            if processes.is_main():
                shutil.rmtree(place / "checkpoints", ignore_errors=True)
    finally:
        if processes.is_main():
            lock.release()
    if place != folder and not processes.first(lambda: holds(folder / WEIGHTS, key)):
        save(folder / WEIGHTS, shop.opened(place / WEIGHTS), key)
    return logged_seconds(place)


def _trained(
    shop: Workshop,
    folder: Path,
    draws: tuple[int | str, ...],
    numbers: tuple[int, ...],
    key: str,
    title: str,
    share: float,
) -> Classifier:
    """A new network after a share of a training, with the base's weights where none moves."""
    from dataclasses import replace

    run = shop.run
    training = replace(run.training, epochs=share * run.training.epochs)
    classifier = shop.network(run.architecture, _seed(*draws))
    classifier.network.load_state_dict(shop.fixed(), strict=False)
    pool = shop.pool(numbers, draws, training.batch, training.augment)
    train(classifier, pool, training, folder, key, shop.accelerator, title)
    return classifier


def _seed(*key: int | str) -> int:
    from erase.runtime.seeding import generator

    return int(generator(*key, "weights").initial_seed())


def make_mask(shop: Workshop) -> Mask:
    """Measures saliency on what is forgotten and writes ``mask.safetensors``."""
    run = shop.run
    base = shop.opened(run.out / "base" / WEIGHTS)
    forget = shop.pool(run.split.forget, (run.seed, "mask"), run.recipe.batch_size, "none")
    facts: dict[str, Any] = {
        "mask": run.recipe.mask,
        "ratio": run.recipe.ratio,
        "forget": run.split.spec,
        "data": run.data.spec,
        "seed": run.seed,
    }
    mask = saliency_mask(base, forget, run.recipe, run.seed, facts)
    if processes.is_main():
        mask.save(run.out / "mask.safetensors")
    processes.wait()
    return mask


def make_unlearned(shop: Workshop, key: str) -> float:
    """Runs the method and writes ``model.safetensors``.

    Returns:
        Samples that it took forward and backward, see ``methods.Method.samples``.
    """
    from erase.classifiers.methods import load_method
    from erase.unlearn.mask import Mask

    run = shop.run
    recipe, split = run.recipe, run.split
    method = load_method(recipe.method)
    classifier = shop.opened(run.out / "base" / WEIGHTS)
    mask = Mask.load(run.out / "mask.safetensors")
    augment = run.training.augment
    shares: list[float] = []
    work = Unlearning(
        forget=shop.pool(split.forget, (run.seed, "forget"), recipe.batch_size, augment),
        retain=shop.pool(split.retain, (run.seed, "retain"), recipe.batch_size, augment),
        classes=len(run.data.classes),
        epochs=recipe.epochs,
        seed=run.seed,
        retrain=_retraining(shop, key, shares),
    )
    unlearn(classifier, work, recipe, mask, run.out / "unlearning", key, shop.accelerator)
    save(run.out / WEIGHTS, classifier, {"unlearn": key})
    each = method.samples(recipe.config, len(split.forget), len(split.retain))
    epochs = recipe.epochs if method.NEEDS.loop else 1.0
    saliency = 3.0 * len(split.forget) if recipe.mask == "saliency" else 0.0
    short = 3.0 * sum(shares) * run.training.epochs * len(split.retain)
    return epochs * each + saliency + short


def unlearned_in(run: ClassifierRun) -> float:
    """Seconds of the steps that unlearning took, a short training's among them."""
    from erase.unlearn.fit import LOG, logged_seconds

    places = (run.out / "unlearning", run.out / "unlearning" / "short")
    return sum(logged_seconds(place) for place in places if (place / LOG).is_file())


def _retraining(shop: Workshop, key: str, shares: list[float]) -> Callable[[float], Classifier]:
    """A short retraining, which a method may ask for; its seed is none of the yardstick's.

    Args:
        shop, key: of the unlearning.
        shares: takes what was asked for.
    """
    run = shop.run

    def retrain(share: float) -> Classifier:
        shares.append(share)
        folder = run.out / "unlearning" / "short"
        draws, numbers = (run.seed, "short"), run.split.retain
        return _trained(shop, folder, draws, numbers, f"{key} {share}", "short training", share)

    return retrain
