"""From a trained checkpoint to a model file for the vehicle."""
