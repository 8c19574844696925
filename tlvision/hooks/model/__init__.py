"""Hooks that change modules of the model."""
