"""One YAML file is one run."""
