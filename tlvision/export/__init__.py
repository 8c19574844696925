"""Export trained runs as bundles: graphs, what they need to be read, and proof that they find the same."""
