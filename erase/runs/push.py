"""What of a run goes to the hub, under which names, and how it gets there.

Sent are the model, its card, the report's figures and the recipe. No image is, since nobody has
looked for nudity in each of them, and no mask, which would show where to look for what was erased.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.eval.report.result import load_report, read_object
from erase.formats.folder import index_of, read_index
from erase.methods import edits, list_methods
from erase.recipes.recipe import recipe_text, recorded_recipe
from erase.runs.card import LICENCE_KEYS, base_of, for_hub
from erase.runs.folder import RECORD, RunFolder
from erase.runtime.errors import UserError, few, reason
from erase.runtime.files import is_plain, sha256
from erase.runtime.places import short
from erase.runtime.tables import read_text
from erase.runtime.words import counted

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

NEVER = "images (report.html holds some), masks, checkpoints, run.json and logs"
"""What stays here, in words."""
INDEX, CARD, RECIPE = "model_index.json", "README.md", "recipe.toml"
REPORTS = ("report.json", "report.md")
ENDS = (".json", ".safetensors", ".bin", ".txt", ".model")
"""Of the files of a component that diffusers and transformers read."""
LICENCES = ("LICENSE", "NOTICE")
PLACES = ("_name_or_path", "name_or_path", "special_tokens_map_file", "tokenizer_file")
"""Keys of configurations that say from where on its author's disk a component was opened."""
MESSAGE = "Model, report and recipe by erase-diffusion"
NAMELESS = (
    "'{}' is not a valid model name on the hub: give OWNER/NAME, each of letters, digits, "
    "'-', '_' and '.'."
)
WAIT = 30.0
"""Seconds for the hub to say what it holds."""


@dataclass(frozen=True)
class File:
    """A file of the repository.

    Attributes:
        path: there, with slashes.
        content: the file here, or its bytes where they are made for the hub.
    """

    path: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """In bytes."""
        own = self.content
        return len(own) if isinstance(own, bytes) else own.stat().st_size

    def is_held(self, there: ModelInfo | None) -> bool:
        """Whether the repository has it, byte for byte."""
        known = {file.rfilename: file for file in (there and there.siblings) or ()}
        found = known.get(self.path)
        if found is None or found.size != self.size:
            return False
        if found.lfs is not None and isinstance(self.content, Path):
            return found.lfs.sha256 == sha256(self.content)
        own = self.content if isinstance(self.content, bytes) else self.content.read_bytes()
        if found.lfs is not None:
            return found.lfs.sha256 == hashlib.sha256(own).hexdigest()
        # Git's name of a file.
        return found.blob_id == hashlib.sha1(b"blob %d\0%b" % (len(own), own)).hexdigest()


@dataclass(frozen=True)
class Parcel:
    """What is to be done, before anything is sent.

    Attributes:
        repo: ``OWNER/NAME``.
        public: whether anybody can see it there.
        exists: whether the repository does; else it is made.
        proposes: whether this becomes a pull request.
        files: that the hub lacks.
        held: how many it has already.
        stale: files there of another model or its report, which go.
        left: names of files in the model's folder that stay here.
        based: whether the card names the base model by its hub id.
    """

    repo: str
    public: bool
    exists: bool
    proposes: bool
    files: Sequence[File]
    held: int
    stale: Sequence[str]
    left: Sequence[str]
    based: bool

    @property
    def size(self) -> int:
        """Of the files, in bytes."""
        return sum(file.size for file in self.files)


def open_run(path: Path, unevaluated: bool = False) -> RunFolder:
    """A run whose model may be passed on.

    Args:
        path: of the run folder.
        unevaluated: whether it may be one of which nobody knows what was erased.

    Raises:
        UserError: no run, an unfinished one, one that changed no weights, or one without figures.
    """
    if not (path / RECORD).is_file():
        raise UserError(f"{path} is not a run folder (it has no {RECORD}): name one.")
    run = RunFolder.open(path)
    method = str(run.facts.get("recipe", {}).get("method"))
    if not run.finished("train") or index_of(path / "model") is None:
        raise UserError(
            f"The run {path} has no finished model: 'erase run --out {path}' finishes it."
        )
    if method in list_methods() and not edits(method):
        raise UserError(
            f"{method} leaves the weights as they are, so that the model in {path} is the base "
            "itself: push the run of a method that changes them."
        )
    if unevaluated:
        return run
    if not run.finished("eval"):
        raise UserError(
            f"The run {path} was not evaluated: 'erase eval --out {path}' does that, or add "
            "--unevaluated to push it without figures."
        )
    if load_report(path).ua is None:
        raise UserError(
            f"The report of {path} does not say how much was erased, since UA was not measured: "
            f"give 'erase eval --out {path}' a --judge, or add --unevaluated."
        )
    return run


def pack(
    run: RunFolder,
    repo: str,
    *,
    public: bool = False,
    proposes: bool = False,
    overwrite: bool = False,
    base: str | None = None,
) -> Parcel:
    """Looks at what the hub holds, and says what would be sent; nothing is.

    Args:
        run: see ``open_run``.
        repo: ``OWNER/NAME``.
        public: whether anybody may see it.
        proposes: open a pull request on a repository that exists, instead of changing it.
        overwrite: replace what the repository holds.
        base: hub id of the base model, where the run took it from a file.

    Raises:
        UserError: a bad name, a base that the card names already, no token, no network, or a
            repository that holds other files, does not exist though it should, or is not as public
            as ``public`` says.
    """
    if repo.count("/") != 1:
        raise UserError(NAMELESS.format(repo))
    card = read_text(run.path / "model" / CARD, "The card")
    known = base_of(card)
    if base is not None and known is not None:
        raise UserError(f"The card names the base already, {known}: leave out --base-model.")
    if base is not None and base.count("/") != 1:
        raise UserError(NAMELESS.format(base))
    terms = {} if base is None else _terms_of(base)
    files = _files(run, for_hub(card, repo, base, terms))
    there = _look(repo)
    if proposes and there is None:
        raise UserError(
            f"The hub has no {repo} to propose anything to, or none that you may see: check the "
            "name, or leave out --create-pr to make it."
        )
    if there is not None and bool(there.private) is public:
        wrong, mend = ("private", "leave out") if public else ("public", "add")
        raise UserError(f"{repo} exists on the hub and is {wrong}: {mend} --public.")
    held = [file for file in files if file.is_held(there)]
    own = {file.path for file in files}
    found = {file.rfilename for file in (there and there.siblings) or ()}
    # What this command would have named so, but has not: of another model, or its report.
    kinds = {path.split("/")[0] for path in own} | {*REPORTS, RECIPE, "concepts"}
    stale = sorted(path for path in found - own if path.split("/")[0] in kinds)
    others = sorted(found - {file.path for file in held} - {".gitattributes"})
    if others and (stale or len(held) < len(files)) and not (overwrite or proposes):
        raise UserError(
            f"{repo} exists on the hub and holds other files ({few(others)}): choose another name, "
            "or add --overwrite to replace them or --create-pr to propose yours."
        )
    new = [file for file in files if file not in held]
    model = run.path / "model"
    here = (file for file in sorted(model.rglob("*")) if file.is_file())
    left = [path for file in here if (path := file.relative_to(model).as_posix()) not in own]
    exists = there is not None
    return Parcel(repo, public, exists, proposes, new, len(held), stale, left, bool(known or base))


def send(parcel: Parcel) -> str:
    """Sends a parcel in one commit: all of it arrives, or nothing does.

    Returns:
        Where it can be seen.

    Raises:
        UserError: the hub refuses it, or the connection broke; again, what is missing is sent.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    with _asking(parcel.repo, "The upload broke off"):
        hub = _hub()
        if not parcel.exists:
            hub.create_repo(parcel.repo, private=not parcel.public)
        done = hub.create_commit(
            parcel.repo,
            [
                *(CommitOperationAdd(file.path, file.content) for file in parcel.files),
                *(CommitOperationDelete(path) for path in parcel.stale),
            ],
            commit_message=MESSAGE,
            create_pr=parcel.proposes,
        )
        return str(done.pr_url or f"{hub.endpoint}/{parcel.repo}")


def told(parcel: Parcel) -> str:
    """A parcel as text: every file with its size, what goes, and what stays here."""
    lines = [f"{amount(file.size):>10}  {file.path}" for file in parcel.files]
    if parcel.held:
        lines.append(f"{counted(parcel.held, 'file')} more {'is' if parcel.held == 1 else 'are'} "
                     "on the hub already.")  # fmt: skip
    if parcel.stale:
        lines.append(f"Removed there: {', '.join(parcel.stale)}.")
    if parcel.left:
        lines.append(f"Left out of model/: {', '.join(parcel.left)}.")
    if not parcel.based:
        lines.append("The card names no base_model, since the base was not one of the hub's: "
                     "--base-model OWNER/NAME adds it.")  # fmt: skip
    lines.append(f"Never sent: {NEVER}.")
    return "\n".join(lines)


def amount(size: int) -> str:
    """Bytes as ``3.4 GB``."""
    unit = next(u for u, at in (("GB", 1e9), ("MB", 1e6), ("kB", 0)) if size >= at)
    return f"{max(size, 100) / {'GB': 1e9, 'MB': 1e6, 'kB': 1e3}[unit]:.1f} {unit}"


def _files(run: RunFolder, card: str) -> list[File]:
    """Everything that is sent, by its place in the repository."""
    model = run.path / "model"
    found = [File(CARD, card.encode())]
    parts = [name for name, value in read_index(model).items() if isinstance(value, list)]
    index = index_of(model)
    for file in sorted(model.iterdir()):
        if file.is_file() and (file.name == index or file.name.startswith(LICENCES)):
            found.append(_file(model, file))
    for name in sorted(name for name in parts if is_plain(name) and (model / name).is_dir()):
        for file in sorted((model / name).iterdir()):
            if file.is_file() and file.suffix in ENDS and not file.name.startswith("."):
                found.append(_file(model, file))
    if run.finished("eval"):
        for place in (run.path, *sorted((run.path / "concepts").glob("*"))):
            found += [_file(run.path, place / n) for n in REPORTS if (place / n).is_file()]
    recipe = recorded_recipe(run.facts["recipe"])
    if recipe.method in list_methods():
        heading = f"How the model was made: erase run --recipe {RECIPE}, seed {run.facts['seed']}"
        found.append(File(RECIPE, recipe_text(recipe, heading).encode()))
    return found


def _file(folder: Path, file: Path) -> File:
    """A file under its name within the folder, without the places that a configuration tells."""
    path = file.relative_to(folder).as_posix()
    if not file.name.endswith(("config.json", INDEX)):
        return File(path, file)
    content = read_object(file)
    changed = {k: short(v) for k, v in content.items() if k in PLACES and isinstance(v, str)}
    if content == content | changed:
        return File(path, file)
    text = json.dumps(content | changed, indent=2, ensure_ascii=False) + "\n"
    return File(path, text.encode())


def _terms_of(base: str) -> dict[str, str]:
    """The licence entries of a base's card on the hub.

    Raises:
        UserError: there is no such model, or the hub can't be asked.
    """
    found = _look(base)
    if found is None:
        raise UserError(f"The hub has no {base}, or none that you may see: check --base-model.")
    told = {key: getattr(found.card_data, key, None) for key in LICENCE_KEYS}
    return {key: str(value) for key, value in told.items() if value}


def _look(repo: str) -> ModelInfo | None:
    """What the hub holds under this name; None where there is nothing, or nothing to be seen."""
    from huggingface_hub.errors import RepositoryNotFoundError

    with _asking(repo, "The hub can't be reached"):
        try:
            return _hub().model_info(repo, files_metadata=True, timeout=WAIT)
        except RepositoryNotFoundError:
            return None


def _hub() -> HfApi:
    from huggingface_hub import HfApi, get_token

    token = get_token()
    if not token:
        raise UserError("You are not logged in to the hub: run 'hf auth login', or set HF_TOKEN.")
    # The http library would refuse it in words that repeat it.
    if not re.fullmatch("[!-~]+", token):
        raise UserError("The hub's token is damaged: log in again with 'hf auth login'.")
    return HfApi(token=token)


@contextmanager
def _asking(repo: str, broken: str) -> Iterator[None]:
    """Says in a sentence why the hub could not be asked.

    Args:
        repo: that it is asked about.
        broken: what it means that the connection did not hold.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever the hub's client, its storage and http library raise
        raise UserError(_sentence(error, repo, broken)) from error


def _sentence(error: Exception, repo: str, broken: str) -> str:
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    if isinstance(error, HFValidationError):
        return NAMELESS.format(repo)
    causes = list(_causes(error))
    status = next((e.response.status_code for e in causes if _answered(e)), None)
    if any(isinstance(e, OfflineModeIsEnabled) for e in causes):
        return "HF_HUB_OFFLINE is set, so that nothing was sent: unset it and push again."
    if status == 401:
        return "The hub does not accept your token: log in again with 'hf auth login'."
    if status == 403:
        return (
            f"The hub does not let you write to {repo}: check its owner's name, use a token that "
            "may write, or add --create-pr to propose your files."
        )
    if status == 409:
        return f"The name {repo} is taken on the hub: choose another."
    if "README.md" in str(error) and isinstance(error, ValueError):
        why = " ".join(str(error).split()).removeprefix("Invalid metadata in README.md. - ")
        return f"The hub refuses the card's front matter ({why}): fix model/{CARD}."
    # Addresses of uploads are signed.
    why = f"it answers {status}" if status else re.sub(r"\?\S*", "", reason(causes[-1]))
    return f"{broken} ({why}): check the network and run the same command again."


def _causes(error: BaseException | None) -> Iterator[Any]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _answered(error: Any) -> bool:
    return getattr(error, "response", None) is not None
