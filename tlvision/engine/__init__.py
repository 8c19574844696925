"""Perform one run: build it from a config, train, evaluate, predict, verify, inspect."""
