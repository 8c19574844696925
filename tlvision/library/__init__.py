"""Keep runs and bundles under names and versions in a folder that a team shares."""
