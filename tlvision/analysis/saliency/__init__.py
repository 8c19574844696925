"""Show which parts of an image a detection or class of a trained model depends on."""
