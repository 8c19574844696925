"""The loop and what it stands on: modes, optimizer, checkpoints, inference."""
