"""Datasets, segmenters, losses, objectives and the training loop."""
