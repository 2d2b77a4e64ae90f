"""All that a run will need, checked before its first image; a dry run is checked by the same."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.diffusion.fingerprint import model_fingerprint
from erase.eval.instruments.choice import UNNAMED, check_axes
from erase.methods import load_method
from erase.recipes.recipe import paths_read
from erase.runs.checks import check
from erase.runs.evaluation import requests, requests_of
from erase.runs.folder import COMMANDS, OUTPUTS, Plan, RunFolder, check_stages
from erase.runs.plan import make_plan
from erase.runs.run import Run, listed
from erase.runtime.devices import accelerator, check_device, for_sampling, memory_told
from erase.runtime.errors import UserError, reason
from erase.runtime.machine import freeze_libraries

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion
    from erase.eval.report.opening import Opened
    from erase.recipes.recipe import Recipe

BYTES_PER_PIXEL = 2
"""Typical size of a photograph stored as PNG."""


@dataclass(frozen=True)
class Ready:
    """What the checks have opened.

    Attributes:
        run: the first one, with its precision settled.
        wanted: the stages asked for, in the order of ``OUTPUTS``.
        accelerator: the device.
        ways: how networks are run there, see ``Diffusion.load``.
        diffusion: the base model; None for one of the hub that may not be fetched now.
        model: its fingerprint.
        plan: of the run.
        opened: what the images will be measured with, one for each concept; empty where nothing
            is to be measured.
        stale: of each run, the begun stages whose inputs changed, which are done anew.
    """

    run: Run
    wanted: tuple[str, ...]
    accelerator: Any
    ways: dict[str, Any]
    diffusion: Diffusion | None = None
    model: dict[str, str] | None = None
    plan: Plan | None = None
    opened: tuple[Opened, ...] = ()
    stale: tuple[tuple[str, ...], ...] = ()


@memory_told()
def prepare(
    runs: Sequence[Run], stages: Sequence[str], overwrite: bool = False, fetch: bool = True
) -> Ready:
    """Checks runs of one model and recipe, and opens what the first one needs.

    Args:
        runs: checked by ``make_run``.
        stages: as the command line names them.
        overwrite: whether changed inputs are accepted.
        fetch: whether models and judges may be downloaded; without, what needs it is checked as far
            as its name goes.

    Raises:
        UserError: anything that would end the run later, as far as it can be told now.
    """
    check_stages(stages)
    asked = {stage for name in stages for stage in COMMANDS[name]}
    wanted = tuple(stage for stage in OUTPUTS if stage in asked)
    run = runs[0]
    opened = check_run(run, wanted, fetch, overwrite)
    check_runs(runs[1:], wanted, fetch, overwrite)
    how, recipe = run.compute, run.recipe
    trained = not overwrite and not _to_train(runs, wanted)
    precision = for_sampling(recipe.precision) if trained else recipe.precision
    acc = accelerator(how.device, precision, how.deterministic, several=True)
    if not trained or recipe.precision == "auto":
        recipe = replace(recipe, precision="bf16" if acc.mixed_precision == "bf16" else "fp32")
    settled = recipe
    run = replace(run, recipe=settled)
    last = how.channels_last or acc.device.type == "cpu"
    ways: dict[str, Any] = {"channels_last": last, "compiled": how.compiled}
    diffusion = _open_model(run.model, acc.device, ways, fetch)
    if diffusion is None:
        return Ready(run, wanted, acc, ways, opened=opened, stale=((),) * len(runs))
    for one in runs:
        check(one, diffusion)
    model = model_fingerprint(diffusion)
    plan = make_plan(run, model)
    stale = []
    for one in runs:
        own = plan if one is runs[0] else make_plan(replace(one, recipe=settled), model)
        stale.append(tuple(RunFolder.open(one.out).changed(own, wanted, overwrite)))
        _check_room(one, wanted, diffusion, stale[-1])
    return Ready(run, wanted, acc, ways, diffusion, model, plan, opened, tuple(stale))


def _to_train(runs: Sequence[Run], wanted: Collection[str]) -> bool:
    """Whether some run has a mask or a training before it."""
    stages = [s for s in ("mask", "train") if s in wanted]
    return any(not RunFolder.open(one.out).finished(s) for one in runs for s in stages)


def check_runs(
    runs: Sequence[Run],
    wanted: Sequence[str] = tuple(OUTPUTS),
    fetch: bool = True,
    overwrite: bool = False,
) -> None:
    """``check_run`` for runs that are measured alike: what the user did not name, which knows
    all of its concepts, is not opened."""
    for run in runs:
        named = run.instruments != UNNAMED
        check_run(run, [s for s in wanted if named or s != "eval"], fetch, overwrite)


def check_run(
    run: Run, wanted: Sequence[str], fetch: bool = True, overwrite: bool = False
) -> tuple[Opened, ...]:
    """Checks what can be told without the model; arguments and errors as for ``prepare``.

    Args:
        run: checked by ``make_run``.
        wanted: stages, as the run folder names them.
        fetch: whether judges may be downloaded.
        overwrite: whether changed inputs are accepted.
    """
    folder = RunFolder.open(run.out)
    _check_place(run.out, "out")
    if run.shared is not None:
        _check_place(run.shared, "shared")
    own = [run.sources.folder(role) for role in run.roles()]
    folder.check_read([Path(run.model), *filter(None, own), *paths_read(run.recipe)])
    check_device(run.compute.device)
    run.retain_prompts()
    asked = requests(run)
    run.instruments.check()
    check_axes(run.instruments.judge, (r.labels for r in asked["base"] if r.role == "retain"))
    # Finished ones may be discarded for others with overwrite.
    if "images" in wanted and (overwrite or not folder.finished("images")):
        from erase.images.files import read_image

        for role in run.roles():
            for file, _, _ in listed(run, role) if run.sources.folder(role) else ():
                read_image(Path(file))
    # A finished report with other judges is refused as changed, or made anew with overwrite.
    if "eval" not in wanted or (folder.finished("eval") and not overwrite):
        return ()
    from erase.eval.report.opening import open_instruments

    return tuple(
        open_instruments(
            target.concept,
            target.anchor,
            run.model,
            run.instruments,
            requests_of(run, number)["base"],
            fetch,
        )
        for number, target in enumerate(run.targets)
    )


def _open_model(model: str, device: Any, ways: dict[str, Any], fetch: bool) -> Diffusion | None:
    from erase.diffusion.model import Diffusion
    from erase.formats.base import on_disk
    from erase.formats.unfetched import check as check_unfetched

    freeze_libraries()
    source = model if fetch else on_disk(model)
    if source is None:
        check_unfetched(model)
        return None
    return Diffusion.load(source, device, **ways)


def _check_place(folder: Path, flag: str) -> None:
    """Refuses a folder that can't be written."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--{flag} {folder} is a file: give a folder.")
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            pass
    except OSError as error:
        raise UserError(
            f"--{flag} {folder} can't be written ({reason(error)}): choose another."
        ) from error


def _existing(path: Path) -> Path:
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def _check_room(
    run: Run, wanted: Sequence[str], diffusion: Diffusion, stale: Collection[str] = ()
) -> None:
    """Refuses what disk or memory clearly can't hold: less than half of the disk space that images
    and checkpoints are likely to take, or than two layers of the autoencoder for one image."""
    side = run.recipe.size or diffusion.size
    folder = RunFolder.open(run.out)
    left = folder.left(wanted, stale)
    images = sum(n for s, n in image_counts(run).items() if s in left)
    # What an interrupted stage has made already, and what is to be replaced, takes no more room.
    free = shutil.disk_usage(_existing(run.out)).free + sum(map(folder.size, left))
    kept = checkpoint_bytes(run, diffusion, left)
    needed = images * side**2 * BYTES_PER_PIXEL + kept
    if needed > 2 * free:
        what = f"{images} images of {side} × {side} px"
        lower = "--size or the number of images"
        if kept > needed / 2:
            what, lower = "The checkpoints of the training", "--ratio, or take a smaller --scope"
        raise UserError(
            f"{what} take about {_gib(max(kept, needed - kept))} on the disk of "
            f"{run.out}, which has {_gib(free)} left: lower {lower}."
        )
    vae = diffusion.autoencoder
    layer = side**2 * (3 if vae is None else int(vae.config.block_out_channels[0])) * 4
    total = device_memory(diffusion.device)
    if total is not None and 2 * layer > total:
        raise UserError(
            f"Making one image of {side} × {side} px takes more than {_gib(2 * layer)} of memory, "
            f"but there are only {_gib(total)}: lower --size."
        )


CHECKPOINTS = 3
"""Checkpoints of a training on the disk while it writes one."""


def moment_bytes(recipe: Recipe) -> int:
    """What the optimizer holds of each weight."""
    return {"adam8bit": 2, "sgd": 4}.get(recipe.optimizer, 8)


def checkpoint_bytes(run: Run, diffusion: Diffusion, wanted: Sequence[str]) -> float:
    """What a training's checkpoints take at most: values and moments of the weights that move, and
    what learns beside them."""
    recipe, method = run.recipe, load_method(run.recipe.method)
    needs, beside = method.NEEDS, getattr(method, "stored", lambda _: 0)(run.recipe.config)
    if not needs.loop or "train" not in wanted:
        return 0.0
    moved = sum(p.numel() for p in diffusion.scoped(recipe.scope, needs.part).values())
    share = recipe.ratio if recipe.mask != "none" else 1.0
    return CHECKPOINTS * moved * (share * (4 + moment_bytes(recipe)) + 4 * beside)


def image_counts(run: Run) -> dict[str, int]:
    """Images that the stages make, by stage."""
    asked = {side: len(rows) for side, rows in requests(run).items()}
    made = [r for r in run.roles() if run.sources.folder(r) is None]
    return {
        "images": sum(int(getattr(run.recipe, f"{role}_images")) for role in made),
        "base": asked["base"] + asked["base2"],
        "erased": asked["erased"],
    }


def device_memory(device: Any) -> int | None:
    """Bytes that a device has in all; None where that is not known."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    import psutil  # type: ignore[import-untyped]

    return int(psutil.virtual_memory().total)


def _gib(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB"
