"""Run a model: predictions in pixels of the original image, and metrics through the files that anyone can check."""
