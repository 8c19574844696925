"""Hooks that give labelled images the look of unlabelled ones."""
