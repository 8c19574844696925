"""Helpers of self-training hooks: teacher predictions, thresholds, the limit on counts, and targets."""
