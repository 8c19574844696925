"""Draw images whose labels are known: a dataset of inspected plates, and coloured shapes for tests."""
