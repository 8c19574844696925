"""Measure how a trained model's metric falls when its validation images are corrupted."""
