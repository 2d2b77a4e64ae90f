"""Models in and out: whatever the user calls a model, and the erased one as a diffusers folder."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from erase.formats import unfetched, whole_files
from erase.formats.folder import (
    components,
    layout_of,
    networks,
    read_parts,
    weight_files,
)
from erase.formats.layouts import INDEX, Part
from erase.formats.supported import PREDICTIONS
from erase.formats.tensors import FILES, refuse_pointer
from erase.runtime.errors import UserError, clipped, nearest, reason
from erase.runtime.files import MODELS, bundled, cache_folder, digest, identity, whole_folder

MINI = "mini"
NEVER = "never-"
"""What the names of the bundled models without a concept begin with, as ``never-church``."""
VARIANTS = ("fp16", "bf16")
"""Which weights of a hub repository are taken where it has no full ones."""
LICENCES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class Base:
    """A model on disk, before anything is erased from it.

    Attributes:
        spec: what the user called it.
        path: diffusers folder, or single file in the original key layout.
        config: diffusers folder that states a single file's configuration.
        prediction: what a single file predicts, where the user says so.
        hub: whether ``spec`` is a hub id.
    """

    spec: str
    path: Path
    config: Path | None = None
    prediction: str | None = None
    hub: bool = False

    @property
    def title(self) -> str:
        """A name that others may read: hub id, or the last part of a local path."""
        return self.spec if self.hub or ships(self.spec) else self.path.resolve().name

    def denoiser_state(self) -> dict[str, Tensor]:
        """``state`` of the denoiser, by parameter name."""
        return self.state("denoiser")

    def state(self, *parts: Part) -> dict[str, Tensor]:
        """The tensors of parts with the dtypes and bits of the file, named as ``Layout.joined``
        does.

        Raises:
            UserError: the model can't be read.
        """
        if self.path.is_dir():
            return read_parts(self.path, *parts)
        with tempfile.TemporaryDirectory() as place:
            states = self.unpack(Path(place))
            layout = layout_of(Path(place))
            own = [component for part in parts for component in layout.part(part)]
            return layout.joined({component: states[component] for component in own})

    def unpack(self, folder: Path) -> dict[str, dict[str, Tensor]]:
        """A single file's tensors by component, its configs in an empty ``folder``.

        Raises:
            UserError: the model can't be read.
        """
        form = next(form for form in whole_files() if self.path.suffix in form.ENDS)
        return form.unpack(self.path, folder, self.config, self.prediction)


def open_base(spec: str, fetch: bool = True) -> Base:
    """Finds a model; one from the hub is downloaded, or taken from the hub's cache.

    Args:
        spec: ``mini``, ``mini-class``, ``never-church`` (mini, trained without it), a hub id
            ``OWNER/NAME``, a diffusers folder, a single file (``.safetensors``, ``.ckpt``),
            ``FILE@FOLDER`` for a file of unusual size whose configuration is that of a diffusers
            folder, or ``FILE@epsilon`` and ``FILE@v_prediction`` for one that does not say what it
            predicts.
        fetch: whether one that the cache lacks is downloaded.

    Raises:
        UserError: there is no such model.
    """
    if spec in MODELS:
        folder = bundled(MODELS[spec])
        if not folder.is_dir():
            script = "train" if spec == MINI else "train_class"
            raise UserError(
                f"The model {spec} is missing: install the package with its data, or make it with "
                f"'python -m erase.mini.{script}'."
            )
        return Base(spec, folder)
    if spec in list_never():
        return Base(spec, _composed(bundled(spec)))
    path = Path(spec).expanduser()
    if _is_never(path):
        return Base(spec, _composed(path))
    if path.is_dir():
        components(path)
        return Base(spec, path)
    file, at, config = spec.rpartition("@")
    if at and not path.exists() and Path(file).expanduser().is_file():
        if config in PREDICTIONS:
            return Base(spec, _model_file(Path(file).expanduser()), prediction=config)
        if not Path(config).expanduser().exists():
            raise UserError(
                f"What follows @ in '{clipped(spec)}' is not a diffusers folder or one of "
                f"{', '.join(PREDICTIONS)}: give one of these."
            )
        components(Path(config).expanduser())
        return Base(spec, _model_file(Path(file).expanduser()), Path(config).expanduser())
    if path.exists():
        return Base(spec, _model_file(path))
    if is_hub_id(spec):
        return Base(spec, _download(spec, fetch), hub=True)
    raise UserError(
        f"There is no model '{spec}': give mini, a diffusers folder, a .safetensors file or a hub "
        f"id (owner/name).{nearest(spec, [*MODELS, *list_never()])}"
    )


def is_hub_id(spec: str) -> bool:
    """Whether a model that is nowhere on the disk may be one of the hub: what looks like a path or
    ends as a file of weights never is."""
    return bool(_HUB_ID.fullmatch(spec)) and Path(spec).suffix not in FILES


def on_disk(spec: str) -> str | None:
    """What opens a model without asking the hub; None for one that was not downloaded yet.

    Raises:
        UserError: what was downloaded is not supported.
    """
    if Path(spec).expanduser().exists() or not is_hub_id(spec):
        return spec
    for variant in (None, *VARIANTS):
        try:
            folder = _fetched(spec, False, variant)
        except UserError:
            continue
        components(folder)
        if _has_weights(folder):
            return str(folder)
    return None


def ships(spec: str) -> bool:
    """Whether a model comes with the package."""
    return spec in (*MODELS, *list_never())


def mini_folder() -> Path:
    """Where the bundled model lies, or would lie."""
    return bundled("model")


def list_never() -> list[str]:
    """The bundled models that were trained without a concept, of which the denoiser is kept."""
    return sorted(file.parent.name for file in bundled("").glob(f"{NEVER}*/config.json"))


def never_knew(base: str, concept: str) -> str | None:
    """The bundled model that never knew a concept of another one's; None where there is none."""
    family, _, name = concept.rpartition("/")
    found = f"{NEVER}{name}"
    return found if base == family == MINI and found in list_never() else None


def _is_never(path: Path) -> bool:
    """Whether a folder is a denoiser of the bundled model's architecture, as ``erase.mini.train
    --without`` writes it."""
    files = (path / "config.json", mini_folder() / "unet" / "config.json")
    if (path / INDEX).exists() or not all(file.is_file() for file in files):
        return False
    try:
        told = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        own, mini = ({k: v for k, v in one.items() if k[0] != "_"} for one in told)
    except (OSError, ValueError, AttributeError, IndexError):
        return False
    return own == mini


def _composed(own: Path) -> Path:
    """A denoiser of the bundled model's architecture with its other parts, as a diffusers folder in
    the user's cache."""
    from filelock import FileLock

    mini = mini_folder()
    place = cache_folder() / "models" / f"{own.name}-{digest([identity(own), identity(mini)])[:16]}"
    if (place / INDEX).is_file():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_name(f".{place.name}.made")):  # several processes open it at once
        if not (place / INDEX).is_file():
            with whole_folder(place, INDEX) as part:
                shutil.copytree(mini, part, dirs_exist_ok=True)
                shutil.rmtree(part / "unet")
                shutil.copytree(own, part / "unet")
    return place


def _model_file(path: Path) -> Path:
    ends = [end for form in whole_files() for end in form.ENDS]
    if path.suffix not in ends or not path.is_file():
        raise UserError(f"{path} is not a model file ({', '.join(ends)}): give one, or a folder.")
    refuse_pointer(path)
    return path


def _download(spec: str, fetch: bool) -> Path:
    """Fetches a pipeline from the hub into its cache, with its card for the licence."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if fetch and not isinstance(try_to_load_from_cache(spec, INDEX), str):
        unfetched.check(spec)
    folder = _fetched(spec, fetch, None)
    components(folder)
    if fetch and not _has_weights(folder):
        for variant in VARIANTS:
            with suppress(UserError):  # there is no such variant either
                folder = _fetched(spec, fetch, variant)
            if _has_weights(folder):
                break
        else:
            raise UserError(
                f"The model '{spec}' has no weights on the hub that can be opened (safetensors or "
                f"PyTorch's own, in full or as {' or '.join(VARIANTS)}): choose another."
            )
    # Without a card, the licence is stated as unknown; a card may name a file of terms.
    for name in ("README.md", *LICENCES):
        with suppress(Exception):
            hf_hub_download(spec, name, local_files_only=not fetch)
    return folder


def _fetched(spec: str, fetch: bool, variant: str | None) -> Path:
    from diffusers import DiffusionPipeline
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        with quiet():
            return Path(
                DiffusionPipeline.download(spec, variant=variant, local_files_only=not fetch)
            )
    except Exception as error:  # whatever the hub's client and its http library raise
        causes = list(_causes(error))
        if any(isinstance(e, GatedRepoError) for e in causes):
            raise UserError(
                f"The model '{spec}' is gated: accept its licence on the hub and log in with "
                "'hf auth login'."
            ) from error
        if any(isinstance(e, RepositoryNotFoundError) for e in causes):
            raise UserError(
                f"There is no model '{spec}', here or on the hub: check the name (a private one "
                "needs 'hf auth login')."
            ) from error
        lacks = [e for e in causes if isinstance(e, EntryNotFoundError)]
        if lacks and not any(isinstance(e, LocalEntryNotFoundError) for e in lacks):
            raise UserError(
                f"The model '{spec}' is no diffusers pipeline (the hub has no {INDEX} of it): "
                "download its file of weights and give that."
            ) from error
        raise UserError(
            f"There is no file or folder '{spec}', and the hub can't be asked for it "
            f"({reason(causes[-1])}): check the name and the network."
        ) from error


def _has_weights(folder: Path) -> bool:
    try:
        return all(weight_files(folder / name) for name in networks(folder))
    except (OSError, UserError):
        return False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the notes and progress bars of diffusers and transformers for a while."""
    from diffusers.utils import logging as diffusers_log
    from transformers.utils import logging as transformers_log

    logs = (diffusers_log, transformers_log)
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, (verbosity, bar) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bar:
                log.enable_progress_bar()
