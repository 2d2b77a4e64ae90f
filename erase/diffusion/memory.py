"""Memory: what a pass through a network takes, counted on torch's meta device, where nothing is
computed, and how it is kept small."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from erase.diffusion.scopes import scoped

if TYPE_CHECKING:
    from erase.diffusion.families import Family

VAE_PIXELS = 4 * 512 * 512
"""Most pixels that the autoencoder sees at a time: in fp32 about 3 GB, whatever the batch."""


def at_once(size: Sequence[int]) -> int:
    """Images of a height and width in px that the autoencoder sees at a time."""
    return max(1, VAE_PIXELS // (size[0] * size[1]))


def to_low_memory(denoiser: Any) -> None:
    """A denoiser in bf16 whose activations are computed again on the way back."""
    nn.Module.to(denoiser, torch.bfloat16)  # diffusers' own warns about what does not matter here
    denoiser.enable_gradient_checkpointing()


class Held(TorchDispatchMode):
    """Counts the bytes of the tensors that are made within it and are alive.

    Attributes:
        now: bytes held.
        most: the most that were held at a time.
    """

    def __init__(self, network: nn.Module) -> None:
        """The weights of ``network``, of which views are taken, are not counted."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known = {p.untyped_storage()._cdata for p in network.parameters()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs an operation and counts the storages of what comes out, views once."""
        out = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._count, out)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@contextmanager
def _fused() -> Iterator[None]:
    """Has attention done in one kernel, as every device does it, which the meta device does not:
    it would hold a matrix of all positions by all. No function mode, which recomputing on the way
    back would not meet."""
    usual = nn.functional.scaled_dot_product_attention

    def kernel(query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> Any:
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)[0]

    nn.functional.scaled_dot_product_attention = kernel
    try:
        yield
    finally:
        nn.functional.scaled_dot_product_attention = usual


def most_held(network: nn.Module, work: Callable[[], object]) -> int:
    """Most bytes that ``work`` with a network on the meta device holds besides the weights."""
    with _fused(), Held(network) as held:
        work()
    found: int = held.most
    return found


def denoiser_bytes(
    family: Family, denoiser: Any, rows: int, side: int, scope: str | None = None
) -> int:
    """Bytes of a pass through a denoiser.

    Args:
        family: of the model.
        denoiser: on the meta device.
        rows: images that pass at a time.
        side: of the latents.
        scope: of the weights that get a gradient on the way back; None for no such way.
    """
    gradient = scope is not None

    def work() -> None:
        x = _empty(rows, denoiser.config.in_channels, side, side).to(denoiser.dtype)
        t = torch.zeros(rows, dtype=torch.long, device="meta")
        out = family.predict(denoiser, x, t, family.blank(denoiser, rows))
        if gradient:
            out.square().mean().backward()

    denoiser.requires_grad_(False)
    for parameter in scoped(denoiser, scope, family.in_scope).values() if scope else ():
        parameter.requires_grad_(True)
    with torch.set_grad_enabled(gradient):
        found = most_held(denoiser, work)
    for parameter in denoiser.parameters():
        parameter.grad = None
    return found


def decoder_bytes(vae: Any, images: int, side: int) -> int:
    """Bytes of decoding images; ``side`` is the latents'."""
    with torch.no_grad():
        x = _empty(images, vae.config.latent_channels, side, side)
        return most_held(vae, lambda: vae.decode(x))


def weights_bytes(network: nn.Module) -> int:
    """Bytes of the weights, in fp32."""
    return 4 * sum(p.numel() for p in network.parameters())


def _empty(*shape: int) -> Tensor:
    return torch.empty(*shape, device="meta")
