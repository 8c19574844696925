"""Read annotation files into samples, and write them: COCO json, label maps, headers of images. Imports no torch."""
