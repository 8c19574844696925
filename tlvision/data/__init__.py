"""From samples to batches: decoding, one affine warp, augmentation, collation."""
