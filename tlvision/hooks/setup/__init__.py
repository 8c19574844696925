"""Hooks that decide what is trained, when and how fast."""
