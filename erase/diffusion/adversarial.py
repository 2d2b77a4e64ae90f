"""Embeddings that bring back what a denoiser unlearns, moved beside its training.

    v_j ← Adam(∇_v ‖ε_θ(x_t, c[v_j]) - ε_0(x_t, c)‖²)

v_j are input embeddings of the text encoders, which learn nothing: they stand in the place of the
concept's word, or before the prompt.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from erase.diffusion.inversion import slots_of, tables
from erase.diffusion.tokens import check_length, padded, read
from erase.formats.tensors import read_metadata, read_tensors, save_tensors
from erase.runtime import processes
from erase.runtime.files import atomic
from erase.runtime.progress import each, progress
from erase.runtime.seeding import generator

if TYPE_CHECKING:
    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion

Place = Literal["word", "before"]


@dataclass(frozen=True)
class Search:
    """How embeddings are moved.

    Attributes:
        count: N, how many, >= 1.
        tokens: k, embeddings of each, >= 1.
        place: in the word's place, or before the prompt.
        lr: of Adam.
        spread: standard deviation of the noise that they start with, as a share of the table's.
        restart: steps after which one of them starts again, in turn; 0 for never.
    """

    count: int = 8
    tokens: int = 1
    place: Place = "word"
    lr: float = 5e-3
    spread: float = 0.5
    restart: int = 20


class Bank:
    """N times k embeddings v_j for each text encoder, with the prompts that they stand in.

    Every process holds the same: their gradients are summed over processes.
    """

    def __init__(
        self, diffusion: Diffusion, prompts: Sequence[str], word: str, search: Search, seed: int
    ) -> None:
        """Starts from the word's own embedding, or from tokens that are drawn.

        Args:
            diffusion: whose text encoders read the prompts.
            prompts: P prompts with the concept's word, or, with embeddings before them, any.
            word: of the concept.
            search: how the embeddings are moved.
            seed: of every draw.

        Raises:
            UserError: a prompt without the word, or too long with the embeddings.
        """
        self.diffusion, self.search, self.seed = diffusion, search, seed
        self.own: list[int] = diffusion.text.tokenizer(word, add_special_tokens=False).input_ids
        self.mask: Tensor | None = None
        if search.place == "word":
            slots = slots_of(diffusion, prompts, word, search.tokens, "--bank-tokens")
            self.ids, self.places = list(slots.ids), slots.places
        else:
            placed = [self.own[0]] * search.tokens
            rows = [[*placed, *own] for own in read(diffusion.text, prompts)]
            remedy = "shorten it, or give --bank-place word"
            check_length(diffusion.text, prompts, search.tokens, remedy)
            self.ids, self.mask = padded(diffusion.text, rows)
            self.places = torch.zeros_like(self.ids[0], dtype=torch.bool)
            self.places[:, 1 : 1 + search.tokens] = True
        self.v = [self._start(j, 0) for j in range(search.count)]
        self.adam = torch.optim.Adam([x for row in self.v for x in row], lr=search.lr)

    def _start(self, j: int, turn: int) -> list[Tensor]:
        """v_j (k, d) of each text encoder before its first step."""
        search, g = self.search, generator(self.seed, "bank", j, turn)
        found = []
        known = [cast(Tensor, table.weight).detach().float() for table in tables(self.diffusion)]
        drawn = torch.randint(len(known[0]), (search.tokens,), generator=g).tolist()
        # Each stands for its share of the word's tokens, or, beyond them, repeats one.
        n, own = search.tokens, self.own
        shares = [own[i::n] or [own[i % len(own)]] for i in range(n)]
        for table in known:
            word = torch.stack([table[share].mean(0) for share in shares])
            start = word if search.place == "word" else table[drawn]
            noise = torch.randn(start.shape, generator=g).to(start)
            found.append((start + search.spread * table.std() * noise).requires_grad_(True))
        return found

    def embed(self, rows: Tensor, which: Tensor) -> Conditioning:
        """Prompts ``rows`` (B,) with the embeddings v_j, j = ``which`` (B,), with their graph."""
        own = rows.to(self.places.device)
        places = self.places[own]
        times = (places.sum(1) // self.search.tokens).tolist()  # a prompt may say the word twice
        turns = list(zip(which.tolist(), times, strict=True))
        v = [torch.cat([self.v[j][e].repeat(n, 1) for j, n in turns]) for e in range(len(self.ids))]
        mask = None if self.mask is None else self.mask[own]
        return self.diffusion.text.encode([ids[own] for ids in self.ids], mask, places, v).float()

    def push(self, value: Tensor) -> None:
        """Adds the gradient of a scalar, whose graph is kept, to the embeddings' own."""
        asked = [x for row in self.v for x in row]
        found = torch.autograd.grad(value, asked, retain_graph=True, allow_unused=True)
        for x, slope in zip(asked, found, strict=True):
            if slope is not None:
                x.grad = slope if x.grad is None else x.grad + slope

    def update(self, index: int) -> None:
        """Moves the embeddings by what step ``index`` pushed; see ``unlearn.fit.Beside``."""
        asked = [x for row in self.v for x in row]
        for x in asked:
            x.grad = torch.zeros_like(x) if x.grad is None else x.grad
        processes.add([cast(Tensor, x.grad) for x in asked])
        for x in asked:
            if not bool(cast(Tensor, x.grad).any()):
                x.grad = None  # no row was given it: its moments stay as they are
        self.adam.step()
        self.adam.zero_grad()
        every = self.search.restart
        if every and (index + 1) % every == 0:
            turn = (index + 1) // every
            j = (turn - 1) % self.search.count
            for x, new in zip(self.v[j], self._start(j, turn), strict=True):
                x.data.copy_(new)
                self.adam.state.pop(x, None)

    def learn(
        self,
        j: int,
        model: Diffusion,
        data: TrainingData,
        steps: int,
        width: int,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Moves v_j to what a model still draws: argmin_v E‖ε - ε_θ(x_t|c[v])‖², by Adam.

        Args:
            j: which.
            model: whose denoiser is asked; it learns nothing.
            data: forget images, with the prompts that the embeddings stand in.
            steps: of Adam, with an optimizer of its own.
            width: rows of a batch that are taken at a time.
            autocast: the mixed precision that they are predicted in.
        """
        adam = torch.optim.Adam(self.v[j], lr=self.search.lr)
        size = data.batch_size
        parts = [slice(start, start + width) for start in range(0, size, width)]
        bar = progress(f"embedding {j + 1}", steps, "step")
        for index in each(range(steps), bar):
            # A few embeddings: every process learns them all.
            for part in parts:
                b = data.draw("forget", index, part, purpose=f"search-{j}")
                with autocast():
                    c = self.embed(b.prompt, torch.full_like(b.t, j))
                    predicted = model.predict(b.x_t, b.t, c)
                share = mse_loss(predicted, b.target) * len(b.t) / size
                slopes = torch.autograd.grad(share, self.v[j])
                for x, slope in zip(self.v[j], slopes, strict=True):
                    x.grad = slope if x.grad is None else x.grad + slope
            adam.step()
            adam.zero_grad()
        adam.zero_grad()
        processes.average([x.data for x in self.v[j]])  # where devices round apart

    def find(
        self,
        remapped: Callable[[int, Path, str], Diffusion],
        data: TrainingData,
        steps: int,
        width: int,
        folder: Path,
        key: str,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Learns one embedding after the other; they learn nothing more afterwards.

        What a run that was cut off has found is taken up.

        Args:
            remapped: makes the model that v_j is learned on, from j, a folder for its checkpoints
                and their key.
            data, steps, width, autocast: see ``learn``.
            folder: where embeddings and these folders lie.
            key: of what all of them are learned on.
        """
        for j in range(self.search.count):
            place, own = folder / f"search-{j}", f"{key}/search-{j}"
            file = folder / f"embedding-{j}.safetensors"
            if not self.recall(j, file, own):
                # By no name here: it is gone before the next one is made.
                self.learn(j, remapped(j, place, own), data, steps, width, autocast)
                if processes.is_main():
                    self.keep(j, file, own)
                    shutil.rmtree(place / "checkpoints")
                processes.wait()
        self.settle()

    def settle(self) -> None:
        """Nothing moves the embeddings any more."""
        for x in (x for row in self.v for x in row):
            x.requires_grad_(False)

    def keep(self, j: int, file: Path, key: str) -> None:
        """Writes v_j with the key of what it was learned on."""
        with atomic(file) as part:
            save_tensors(part, {str(e): x.detach() for e, x in enumerate(self.v[j])}, {"key": key})

    def recall(self, j: int, file: Path, key: str) -> bool:
        """Takes up v_j where it was kept with this key; returns whether it was."""
        if not (file.exists() and read_metadata(file).get("key") == key):
            return False
        state = read_tensors(file)
        for e, x in enumerate(self.v[j]):
            x.data.copy_(state[str(e)])
        return True

    def state_dict(self) -> dict[str, Any]:
        """The embeddings and Adam's moments."""
        v = [x.detach().cpu() for row in self.v for x in row]
        return {"v": v, "adam": self.adam.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        for x, kept in zip([x for row in self.v for x in row], state["v"], strict=True):
            x.data.copy_(kept)
        self.adam.load_state_dict(state["adam"])
