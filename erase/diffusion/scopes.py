"""Which weights of a denoiser a method may look at or move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from erase.runtime.errors import UserError, nearest
from erase.unlearn.mask import Mask

SCOPES = (
    *("full", "xattn", "xattn-kv", "noxattn", "noxattn-core"),
    *("full-no-norms", "noxattn-no-norms"),
)
"""All weights; cross-attention (``attn2``); its key and value matrices; all but cross-attention;
the same without the output layers and the time embedding, as in ESD's first code; all, and all but
cross-attention, without the norms, which are the linear and convolutional layers of ESD's rewrite.
"""


def in_scope(scope: str, name: str) -> bool:
    """Whether the denoiser parameter ``name`` belongs to ``scope``.

    Raises:
        UserError: there is no such scope.
    """
    parts = name.split(".")
    cross, norm = "attn2" in parts, any("norm" in part for part in parts[:-1])
    match scope:
        case "full":
            return True
        case "xattn":
            return cross
        case "xattn-kv":
            return cross and parts[parts.index("attn2") + 1] in ("to_k", "to_v")
        case "noxattn":
            return not cross
        case "noxattn-core":
            return not cross and parts[0] not in ("time_embedding", "conv_norm_out", "conv_out")
        case "full-no-norms":
            return not norm
        case "noxattn-no-norms":
            return not cross and not norm
    raise UserError(
        f"Unknown scope '{scope}': use one of {', '.join(SCOPES)}.{nearest(scope, SCOPES)}"
    )


def in_text_scope(scope: str, name: str) -> bool:
    """Whether a text encoder's parameter ``name`` belongs to ``scope``: of ``text-layers``, which
    leave out the embeddings and the projection, or ``full``.

    Raises:
        UserError: there is no such scope.
    """
    parts = name.split(".")
    match scope:
        case "full":
            return True
        case "text-layers":
            return "layers" in parts or "final_layer_norm" in parts
    raise UserError(f"Unknown scope '{scope}' of a text encoder: use text-layers or full.")


def scoped(
    module: nn.Module, scope: str, within: Callable[[str, str], bool] = in_scope
) -> dict[str, nn.Parameter]:
    """The module's parameters that belong to ``scope``, in its own order.

    Args:
        module: any denoiser, or text encoders.
        scope: one of ``SCOPES``, or of ``in_text_scope``'s.
        within: whether a parameter belongs to a scope, by both their names.

    Raises:
        UserError: there is no such scope, or nothing of the model belongs to it.
    """
    found = {n: p for n, p in module.named_parameters() if within(scope, n)}
    if not found:
        raise UserError(
            f"The model has no weights in the scope '{scope}': choose another, or full."
        )
    return found


def read_mask(path: Path) -> Mask:
    """Reads a mask of a denoiser, also one from before masks told which parameters they are drawn
    from, and named the scope alone.

    Raises:
        UserError: there is no such file, or it holds no mask.
    """
    mask = Mask.load(path)
    scope = str(mask.provenance.get("scope", "full"))
    if mask.names is not None or scope == "full":
        return mask
    return replace(mask, names=frozenset(n for n in mask.shapes if in_scope(scope, n)))
