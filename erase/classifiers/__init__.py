"""Image classifiers that forget: data, splits, models and methods.

The other half of SalUn's paper (Fan et al., arXiv 2310.12508, sections 4 and 5). Saliency, mask,
masked optimizer and loop are those of ``erase.unlearn``.
"""
