"""Perform many runs and compare them in one table."""
