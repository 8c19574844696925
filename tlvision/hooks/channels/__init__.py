"""Which channels of a network belong together: for hooks that prune, and for exports that leave channels out."""
