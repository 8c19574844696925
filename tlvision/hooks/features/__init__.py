"""Helpers of hooks that use features: tap selection, feature vectors, discriminators."""
