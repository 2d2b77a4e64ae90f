"""What a run does beside its results: none of it enters the inputs of a stage."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from erase.runtime.errors import UserError

TRACKERS = ("tensorboard", "wandb")


@dataclass(frozen=True)
class Manner:
    """How a run goes about its work.

    Attributes:
        ask_base: before training, ask a judge whether the base model makes the concept at all.
        anyway: go on where it does not.
        preview: how often training draws its fixed prompts, >= 0, evenly spaced to the end.
        tracker: where accelerate sends losses and previews, one of ``TRACKERS``; None is nowhere.
        told: whether the plan and the stages are announced.

    Raises:
        UserError: a negative number of previews, or a tracker that is unknown or not installed.
    """

    ask_base: bool = True
    anyway: bool = False
    preview: int = 0
    tracker: str | None = None
    told: bool = True

    def __post_init__(self) -> None:
        if self.preview < 0:
            raise UserError(f"--preview {self.preview} is negative: give 0 for never, or more.")
        if self.tracker is not None and self.tracker not in TRACKERS:
            raise UserError(
                f"There is no tracker '{self.tracker}': choose from {', '.join(TRACKERS)}."
            )
        if self.tracker is not None and find_spec(self.tracker) is None:
            raise UserError(
                f"--tracker {self.tracker} needs {self.tracker}: "
                f"pip install -e '.[{self.tracker}]' in the clone."
            )


USUAL = Manner()
PREVIEW = 4
"""Previews of a run that says nothing else."""
