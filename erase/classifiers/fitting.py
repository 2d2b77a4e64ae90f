"""Training and unlearning: what a run does with networks, knowing nothing of its folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from erase.classifiers.batches import Pool
from erase.classifiers.methods import load_method
from erase.classifiers.models import Classifier
from erase.classifiers.training import Training
from erase.classifiers.unlearning import Unlearning
from erase.runtime import processes
from erase.runtime.errors import UserError
from erase.unlearn.fit import Fit, Settings
from erase.unlearn.mask import Mask
from erase.unlearn.parts import WHOLE, shares
from erase.unlearn.saliency import accumulate

if TYPE_CHECKING:
    from accelerate import Accelerator

BATCH_NORM = (nn.modules.batchnorm._BatchNorm,)
"""Layers with running statistics."""


class Recipe(Protocol):
    """What unlearning reads of a recipe; see ``recipes.classifier.ClassifierRecipe``."""

    @property
    def method(self) -> str: ...
    @property
    def config(self) -> Any: ...
    @property
    def mask(self) -> Literal["saliency", "none", "random"]: ...
    @property
    def ratio(self) -> float: ...
    @property
    def epochs(self) -> float: ...
    @property
    def lr(self) -> float: ...
    @property
    def optimizer(self) -> Literal["sgd", "adam", "adamw"]: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def lr_schedule(self) -> Literal["constant", "cosine", "step"]: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def batchnorm(self) -> Literal["auto", "frozen", "moving"]: ...


CHECKPOINTS = 20
"""How often a training leaves one."""


def train(
    classifier: Classifier,
    pool: Pool,
    training: Training,
    folder: Path,
    key: str,
    accelerator: Accelerator,
    title: str = "train",
) -> None:
    """Trains a network from where it is, in place, or from the last checkpoint of the same key.

    Weights that require no gradient stay as they are, and the running statistics of BatchNorm
    layers that have only such.

    Args:
        classifier: left in evaluation mode.
        pool: the samples, in batches of ``training.batch``.
        training: epochs, learning rate and so on.
        folder: of checkpoints and log.
        key: of what the training depends on.
        accelerator: device and processes.
        title: of the progress bar.

    Raises:
        UserError: the loss is not finite.
    """
    network = classifier.network
    steps = pool.steps(training.epochs)
    settings = Settings(
        steps=steps,
        lr=training.lr,
        optimizer="sgd",
        weight_decay=training.weight_decay,
        checkpoint_every=max(1, -(-steps // CHECKPOINTS)),
        schedule=training.schedule,
    )
    params = _free(network)
    _into_training(network, params)

    def step(index: int, part: slice) -> dict[str, Tensor]:
        batch = pool.at(index, part)
        return {"loss": cross_entropy(classifier.logits(batch.x), batch.y)}

    Fit(
        settings,
        Mask.full(params, network),
        folder,
        accelerator,
        key,
        _parts(),
        buffers=_moving(network),
        draws=(*pool.key, "network"),
        title=title,
        advice="lower --train-lr",
    )(network, step)
    network.eval()


def unlearn(
    classifier: Classifier,
    data: Unlearning,
    recipe: Recipe,
    mask: Mask,
    folder: Path,
    key: str,
    accelerator: Accelerator,
) -> None:
    """Runs a method, in place; arguments as for ``train``.

    BatchNorm's running statistics stay where they are under a mask, unless the recipe lets them
    move: they are no weights, so that no mask holds them. Those of layers whose weights require no
    gradient stay in any case.

    Raises:
        UserError: the loss, or a closed form's solution, is not finite.
    """
    method, network = load_method(recipe.method), classifier.network
    pools = {"forget": len(data.forget), "retain": len(data.retain)}
    count = sum(pools.values()) if method.NEEDS.epoch == "both" else pools[method.NEEDS.epoch]
    steps = max(1, -(-round(recipe.epochs * count) // recipe.batch_size))
    settings = Settings(
        steps=steps,
        lr=recipe.lr,
        optimizer=recipe.optimizer,
        weight_decay=recipe.weight_decay,
        checkpoint_every=max(1, -(-steps // CHECKPOINTS)),
        schedule=recipe.lr_schedule,
    )
    _into_training(network, mask.drawn_from())
    frozen = recipe.batchnorm == "frozen" or (recipe.batchnorm == "auto" and recipe.mask != "none")
    if frozen:
        for module in network.modules():
            if isinstance(module, BATCH_NORM):
                module.eval()
    fit = Fit(
        settings,
        mask,
        folder,
        accelerator,
        key,
        _parts(),
        buffers=not frozen and _moving(network),
        draws=(data.seed, "unlearn", "network"),
        title="unlearn",
        advice="lower --lr",
    )
    method.unlearn(classifier, data, recipe.config, fit)
    network.eval()


def saliency_mask(
    classifier: Classifier,
    forget: Pool,
    recipe: Recipe,
    seed: int,
    provenance: dict[str, Any],
) -> Mask:
    """The mask of the weights that matter for the samples to forget (equation 4).

    The network is in evaluation mode and the images are as they are; the signed gradient of the
    loss is summed over all of them and its magnitude taken once.

    Args:
        classifier: the base, in evaluation mode.
        forget: the samples.
        recipe: says which mask, and how large.
        seed: of a random one.
        provenance: what to record beside the bits.

    Raises:
        UserError: no weight requires a gradient.
    """
    network = classifier.network
    params = _free(network)
    if recipe.mask != "saliency":
        mask = Mask.full(params, network, provenance)
        return mask if recipe.mask == "none" else mask.random(recipe.ratio, seed)
    network.eval()
    found = accumulate(params, processes.deal(list(_losses(classifier, forget))), add=processes.add)
    return Mask.top(found, recipe.ratio, network, provenance)


def _free(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that may move, by name: those that require a gradient."""
    params = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if not params:
        raise UserError("Every weight is frozen: let some of the model's require a gradient.")
    return params


def _into_training(network: nn.Module, moving: Collection[str]) -> None:
    """Training mode, but for BatchNorm layers that have weights and none of the moving ones."""
    network.train()
    for name, module in network.named_modules():
        own = [f"{name}.{key}".lstrip(".") for key, _ in module.named_parameters(recurse=False)]
        if isinstance(module, BATCH_NORM) and own and not {*own} & {*moving}:
            module.eval()


def _losses(classifier: Classifier, pool: Pool) -> Iterator[Callable[[], Tensor]]:
    """Summed losses of parts of the samples; signs don't matter to a magnitude."""
    for place in torch.arange(len(pool)).split(pool.batch):

        def loss(place: Tensor = place) -> Tensor:
            batch = pool.rows(place)
            return cross_entropy(classifier.logits(batch.x), batch.y, reduction="sum")

        yield loss


def _parts() -> tuple[slice, ...]:
    """The rows of each batch that this process takes."""
    count = processes.count()
    return (WHOLE,) if count == 1 else shares(1, processes.index(), count)


def _moving(network: nn.Module) -> bool:
    """Whether the network has running statistics that training moves."""
    return any(isinstance(m, BATCH_NORM) and m.track_running_stats for m in network.modules())
