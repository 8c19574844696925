"""Hooks that decide which parameters are trained, when and how fast."""
