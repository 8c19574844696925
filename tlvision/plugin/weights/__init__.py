"""Read weight files without running anything from them, and fit them to a model whose head has other classes."""
