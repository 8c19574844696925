"""Hooks that add losses to a step."""
