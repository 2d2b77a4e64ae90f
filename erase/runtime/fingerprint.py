"""What tells the weights of two models apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from torch import Tensor, nn

_CHUNK = 1 << 22


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
