"""The training loop with its modes, optimizer and checkpoints."""
