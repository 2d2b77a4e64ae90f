"""What an attack found, beside its figures: images for the page, prompts and embeddings for use."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from erase.eval.attacks import Found, Target
from erase.eval.recovery.outcome import Seen
from erase.eval.recovery.report import Shown
from erase.formats.tensors import save_tensors
from erase.runs.attacks.kept import blind
from erase.runs.attacks.targets import target_of
from erase.runtime.files import atomic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from erase.runs.attacks.inquiry import Inquiry

COLUMNS = (
    "case_number",
    "prompt",
    "evaluation_seed",
    "guidance_scale",
    "height",
    "width",
    "token_ids",
)
"""Of a prompt set that was found."""


def keep(found: Found, plain: Sequence[NDArray[np.uint8]], folder: Path, target: Target) -> None:
    """Writes the images of the first restart beside the plain ones, and prompts or embeddings.

    Args:
        found: by the attack.
        plain: an image of every row without it.
        folder: of the side; what was found is beside it.
        target: whose rows the images are of.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rows = len(target.rows)
    for number, pixels in enumerate(found.images[:rows]):
        for end, one in (("after", pixels), ("before", plain[number])):
            with atomic(folder / f"{number:03d}_{end}.png") as part:
                Image.fromarray(one).save(part, format="PNG")
    if found.embeddings:
        # Under the names by which other tools open a textual inversion, of SDXL a pair.
        names = ("emb_params",) if len(found.embeddings) == 1 else ("clip_l", "clip_g")
        pairs = zip(names, found.embeddings, strict=True)
        v = {name: x.contiguous() for name, x in pairs}
        save_tensors(folder.parent / f"{folder.name}-embedding.safetensors", v, {"format": "pt"})
    if found.prompts:
        text = io.StringIO()
        sheet = csv.writer(text, lineterminator="\n")
        sheet.writerow(COLUMNS)
        ids = found.tokens or [()] * len(found.prompts)
        lines = zip(found.prompts, target.rows, ids, strict=True)
        for number, (prompt, row, tokens) in enumerate(lines):
            told = (prompt, row.seed + found.later, row.guidance, *(row.size or (None, None)))
            sheet.writerow([number, *told, " ".join(map(str, tokens))])
        with atomic(_prompts_of(folder)) as part:
            part.write_text(text.getvalue(), encoding="utf-8")


def shown(inquiry: Inquiry, name: str, erased: Seen | str) -> list[Shown]:
    """The images of the page's grid, each with the prompt that it was asked for by.

    Args:
        inquiry: what was attacked.
        name: of the attack.
        erased: what the judges say of the model in question.
    """
    place = f"attacks/{name}/erased"
    steps = max(erased.curve) if not isinstance(erased, str) and erased.curve else None
    after = "" if steps is None else f", after {steps} steps"
    rows = target_of(inquiry, "erased", blind, text=False).rows
    asked = [(row.prompt, str(row.seed)) for row in rows]
    if (file := _prompts_of(inquiry.out / place)).is_file():
        with file.open(encoding="utf-8", newline="") as lines:
            told = list(csv.DictReader(lines))
        asked = [(line["prompt"], line["evaluation_seed"]) for line in told]
    return [
        Shown(
            f"{place}/{number:03d}_before.png",
            f"{place}/{number:03d}_after.png",
            f"{prompt or 'no prompt'}, seed {seed}{after}",
        )
        for number, (prompt, seed) in enumerate(asked)
    ]


def _prompts_of(folder: Path) -> Path:
    return folder.parent / f"{folder.name}-prompts.csv"
