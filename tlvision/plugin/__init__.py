"""The contract with a model family, and how plugins are found. Importing it imports no torch."""

from tlvision.plugin.groups import GroupMap, map_groups
from tlvision.plugin.protocol import (
    ROLES,
    Adapter,
    BuildSpec,
    HasInstanceFeatures,
    HasTrainingProgress,
    InstanceFeatures,
    LayerGroup,
    Plugin,
    Role,
    Tap,
    Task,
    WeightReport,
)
from tlvision.plugin.registry import get_plugin, plugin_names
from tlvision.plugin.taps import capture, tap_features
from tlvision.types import InputSpec

__all__ = [
    "ROLES",
    "Adapter",
    "BuildSpec",
    "GroupMap",
    "HasInstanceFeatures",
    "HasTrainingProgress",
    "InputSpec",
    "InstanceFeatures",
    "LayerGroup",
    "Plugin",
    "Role",
    "Tap",
    "Task",
    "WeightReport",
    "capture",
    "get_plugin",
    "map_groups",
    "plugin_names",
    "tap_features",
]
