"""The original (CompVis) layout of Stable Diffusion files."""
