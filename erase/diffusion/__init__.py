"""Diffusion models behind one boundary."""
