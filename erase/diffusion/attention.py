"""Reads the cross-attention probabilities of a denoiser while it predicts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class Recorder:
    """An attention processor that computes probabilities in the open and keeps them.

    The usual processors go through a fused kernel that never shows them. Covers the attention
    blocks of Stable Diffusion 1, 2 and XL: (B, N, D) hidden states, no added norms or biases.

    Args:
        name: of the layer.
        found: takes the probabilities (B, heads, N, tokens).
    """

    def __init__(self, name: str, found: dict[str, Tensor]) -> None:
        self.name, self.found = name, found

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """The layer's output, as the usual processors compute it."""
        tokens = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (
            x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for x in (attn.to_q(hidden_states), attn.to_k(tokens), attn.to_v(tokens))
        )
        scores = q @ k.transpose(-1, -2) * attn.scale
        if attention_mask is not None:
            scores = scores + attention_mask
        probs = scores.softmax(-1)
        self.found[self.name] = probs
        out: Tensor = attn.to_out[0]((probs @ v).transpose(1, 2).flatten(-2))
        return out


@contextmanager
def recording(denoiser: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Records every cross-attention layer (``attn2``) within the block.

    Activations are kept meanwhile: those that are looked at can't be computed again.

    Yields:
        Filled by each prediction: by layer, probabilities (B, heads, N, tokens).
    """
    unet: Any = denoiser
    kept, again = dict(unet.attn_processors), unet.is_gradient_checkpointing
    found: dict[str, Tensor] = {}
    chosen = {
        name: Recorder(name.removesuffix(".processor"), found) if ".attn2." in name else one
        for name, one in kept.items()
    }
    unet.disable_gradient_checkpointing()
    unet.set_attn_processor(chosen)
    try:
        yield found
    finally:
        unet.set_attn_processor(dict(kept))
        if again:
            unet.enable_gradient_checkpointing()
