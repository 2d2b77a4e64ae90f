"""Which weights of a denoiser a method may look at or move, and what tells two models apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from torch import Tensor, nn

from erase.errors import UserError, nearest

SCOPES = (
    *("full", "xattn", "xattn-kv", "noxattn", "noxattn-core"),
    *("full-no-norms", "noxattn-no-norms"),
)
"""All weights; cross-attention (``attn2``); its key and value matrices; all but cross-attention;
the same without the output layers and the time embedding, as in ESD's first code; all, and all but
cross-attention, without the norms, which are the linear and convolutional layers of ESD's rewrite.
"""

_CHUNK = 1 << 22


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


def scoped(denoiser: nn.Module, scope: str) -> dict[str, nn.Parameter]:
    """The denoiser's parameters that belong to ``scope``, in its own order.

    Raises:
        UserError: there is no such scope, or nothing of the model belongs to it.
    """
    found = {n: p for n, p in denoiser.named_parameters() if in_scope(scope, n)}
    if not found:
        raise UserError(f"The model has no weights in the scope '{scope}': use another, or full.")
    return found


def fingerprint(module: nn.Module) -> str:
    """Hex SHA-256 of a module's parameters; half-precision weights hash as what they upcast to."""
    return fingerprint_state(dict(module.named_parameters()))


def fingerprint_state(state: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over names, shapes and fp32 values, in the order of the sorted names.

    Equals ``fingerprint(module)`` for the tensors of ``module.named_parameters()``. Values are
    read a few MB at a time, so that no copy of the model is made.
    """
    found = hashlib.sha256()
    for name in sorted(state):
        flat = state[name].detach().reshape(-1)
        found.update(json.dumps([name, list(state[name].shape)]).encode())
        for start in range(0, len(flat), _CHUNK):
            found.update(flat[start : start + _CHUNK].float().cpu().numpy().data)
    return found.hexdigest()
