"""Hooks that read, and write their own files."""
