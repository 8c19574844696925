"""YOLO detectors of ultralytics as a plugin of tlvision. ultralytics is licensed AGPL-3.0."""
