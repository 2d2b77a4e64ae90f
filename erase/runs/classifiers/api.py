"""``erase.unlearn_classifier``: a model and two data sets in, the model without one of them out."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from erase.classifiers.batches import Pool
from erase.classifiers.fitting import saliency_mask, train, unlearn
from erase.classifiers.models import Classifier
from erase.classifiers.samples import Wrapped, wrapped
from erase.classifiers.training import Training
from erase.classifiers.unlearning import Unlearning
from erase.recipes.classifier import ClassifierRecipe, load_recipe
from erase.runtime.devices import accelerator, settings_kept
from erase.runtime.errors import UserError, reason
from erase.runtime.seeding import checked_seed


def unlearn_classifier(
    model: nn.Module,
    retain: Any,
    forget: Any,
    recipe: str = "salun",
    seed: int = 0,
    **overrides: Any,
) -> nn.Module:
    """Makes a classifier forget samples, in place.

    Args:
        model: takes x of the data sets in batches (B, …) and returns logits (B, K), or an object
            with ``.logits``; it stays on its device and in its mode.
        retain, forget: torch data sets of (x, y), what the model was trained on; y is a whole
            number in [0, K).
        recipe: a name from ``erase classifier list recipes``, or a .toml file.
        seed: of every draw, >= 0.
        **overrides: recipe values, e.g. ``lr=0.005``.

    Weights that require no gradient stay as they are, in networks trained anew as well. ``retrain``
    and ``salun-unseen`` train a network anew from its ``reset_parameters`` with
    ``erase.classifiers.training.Training()``'s values, the first for all of its epochs.

    Returns:
        ``model``.

    Raises:
        erase.runtime.errors.UserError: bad input, or a loss that is not finite; the model is then
            as it was.
    """
    if type(seed) is not int:
        raise UserError(f"The seed is {seed!r}: give a whole number.")
    checked_seed(seed)
    chosen = load_recipe(recipe, overrides)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    kept, forgotten = wrapped(retain), wrapped(forget)
    modes = {module: module.training for module in model.modules()}
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    before = copy.deepcopy(model.state_dict())
    try:
        # Methods seed the draws of the network itself, such as dropout's.
        own_draws = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
        with settings_kept(), own_draws:
            _unlearn(model, kept, forgotten, chosen, seed, device)
    except BaseException:
        model.load_state_dict(before)
        raise
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted[name])
        for module, mode in modes.items():
            module.training = mode
    return model


def _unlearn(
    model: nn.Module,
    kept: Wrapped,
    forgotten: Wrapped,
    chosen: ClassifierRecipe,
    seed: int,
    device: torch.device,
) -> None:
    model.eval()
    found: Any = None
    for name, own in (("forget", forgotten), ("retain", kept)):
        try:
            with torch.no_grad():
                found = model(own.images(torch.tensor([0])).to(device))
        except (RuntimeError, ValueError, TypeError) as error:
            raise UserError(
                f"The model can't take a sample of the {name} set ({reason(error)}): give data "
                "sets of tensors of the shape and type that it takes."
            ) from error
    logits = getattr(found, "logits", found)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shown = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"The model returns {shown} for one sample: it must return logits of shape (1, K), or "
            "an object that has them as .logits."
        )
    classes = logits.shape[1]
    for name, own in (("retain", kept), ("forget", forgotten)):
        if int(own.labels.max()) >= classes or int(own.labels.min()) < 0:
            raise UserError(
                f"The {name} set has labels from {int(own.labels.min())} to "
                f"{int(own.labels.max())}, but the model has {classes} outputs."
            )

    def pool(own: Wrapped, name: str) -> Pool:
        numbers = torch.arange(len(own.labels))
        return Pool(own, numbers, own.labels, chosen.batch_size, (seed, name), device)

    acc = accelerator(device.type, "fp32", False)
    with tempfile.TemporaryDirectory(prefix="erase-") as place:
        folder = Path(place)
        classifier = Classifier(model, classes)

        def retrained(share: float) -> Classifier:
            usual = Training()
            training = Training(epochs=share * usual.epochs, batch=chosen.batch_size)
            fresh = Classifier(_anew(model, seed), classes)
            train(fresh, pool(kept, "short"), training, folder / "short", f"{share}", acc)
            return fresh

        mask = saliency_mask(classifier, pool(forgotten, "mask"), chosen, seed, {})
        work = Unlearning(
            pool(forgotten, "forget"),
            pool(kept, "retain"),
            classes,
            chosen.epochs,
            seed,
            retrained,
        )
        unlearn(classifier, work, chosen, mask, folder, "api", acc)


def _anew(model: nn.Module, seed: int) -> nn.Module:
    """A network of the same kind with new weights; those that require no gradient are the same.

    Raises:
        UserError: a module with weights does not say how it is initialised.
    """
    fresh = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in fresh.modules():
            own = list(module.parameters(recurse=False))
            frozen = [(p, p.detach().clone()) for p in own if not p.requires_grad]
            if own and len(frozen) == len(own):
                continue
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                for parameter, value in frozen:
                    parameter.data.copy_(value)
            elif own:
                raise UserError(
                    f"A {type(module).__name__} can't be initialised anew, which this recipe needs "
                    "for its short training: give it a reset_parameters()."
                )
    return fresh
