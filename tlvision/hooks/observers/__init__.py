"""Hooks that read, and write files of their own."""
