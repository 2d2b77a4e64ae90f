"""Saliency, masks, the masked optimizer and the training loop, for any module."""
