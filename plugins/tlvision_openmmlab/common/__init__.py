"""What the plugins for OpenMMLab's libraries have in common."""
