"""Common parts of the plugins for OpenMMLab's libraries."""
