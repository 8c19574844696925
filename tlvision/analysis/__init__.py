"""Study one dataset or one model: the gap between domains, the quality of pseudo-labels."""
