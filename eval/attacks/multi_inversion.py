"""Concept inversion with several embeddings in the word's place, which hold more than one does.

A defence that was trained against single embeddings may leave room for pairs and quadruples of
them; Forget-Me-Not (arXiv 2303.17591) and multi-token textual inversion describe concepts so.
Otherwise as ``inversion``, from the word's own tokens in turn.
"""

from __future__ import annotations

from erase.eval.attacks._inverting import Settings, run

__all__ = ["SETTINGS", "TEXT", "run"]

TEXT = False
SETTINGS = {
    "quick": Settings(vectors=4),
    "full": Settings(vectors=4, steps=500),
    "published": Settings(vectors=4, steps=3000, batch=4, lr=2e-3),
}
