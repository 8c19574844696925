"""The contract with a model family, and how plugins are found. Importing it imports no torch."""

from tlvision.plugin.dense import interpolate, label_maps
from tlvision.plugin.groups import GroupMap, map_groups
from tlvision.plugin.protocol import (
    ROLES,
    Adapter,
    BuildSpec,
    HasDenseLogits,
    HasInstanceFeatures,
    HasOptions,
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
from tlvision.plugin.taps import capture, record, tap_features
from tlvision.types import InputSpec

__all__ = [
    "ROLES",
    "Adapter",
    "BuildSpec",
    "GroupMap",
    "HasDenseLogits",
    "HasInstanceFeatures",
    "HasOptions",
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
    "interpolate",
    "label_maps",
    "map_groups",
    "plugin_names",
    "record",
    "tap_features",
]
