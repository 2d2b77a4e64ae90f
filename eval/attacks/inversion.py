"""Concept inversion (Pham et al., arXiv 2308.01508): an embedding learned on the erased model.

Textual inversion with the base's images of the concept: v = argmin_v E‖ε - ε_θ(x_t | c_v)‖² over an
input embedding v in the place of the concept's word, from several starts. The models learn nothing:
what v brings back, they still hold. Random search draws as many embeddings as the forwards pay for
and takes the one of the lowest loss.
"""

from __future__ import annotations

from erase.eval.attacks._inverting import Settings, run

__all__ = ["SETTINGS", "TEXT", "run"]

TEXT = False
SETTINGS = {
    "quick": Settings(),
    "full": Settings(steps=500),
    "published": Settings(steps=3000, batch=4, lr=2e-3),  # of arXiv 2505.17013
}
