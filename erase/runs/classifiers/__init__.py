"""One run of a classifier that forgets: train, mask, unlearn, retrain, eval."""
