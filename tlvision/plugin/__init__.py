"""The contract with a model family, and how plugins are found. Importing it imports no torch."""

from tlvision.plugin.constants import constants
from tlvision.plugin.dense import (
    ScoreKind,
    class_log_probabilities,
    class_probabilities,
    interpolate,
    label_maps,
    score_kind,
)
from tlvision.plugin.export import Exportable, ExportGraphs
from tlvision.plugin.groups import GroupMap, map_groups
from tlvision.plugin.protocol import (
    ROLES,
    Adapter,
    BuildSpec,
    HasDenseLogits,
    HasForeignModels,
    HasInstanceFeatures,
    HasOptions,
    HasScoreGradients,
    HasTrainingProgress,
    InstanceFeatures,
    LayerGroup,
    Plugin,
    PredictSpec,
    Role,
    Tap,
    WeightReport,
)
from tlvision.plugin.registry import get_plugin, plugin_names
from tlvision.plugin.taps import capture, record, tap_features
from tlvision.types import InputSpec

__all__ = [
    "ROLES",
    "Adapter",
    "BuildSpec",
    "ExportGraphs",
    "Exportable",
    "GroupMap",
    "HasDenseLogits",
    "HasForeignModels",
    "HasInstanceFeatures",
    "HasOptions",
    "HasScoreGradients",
    "HasTrainingProgress",
    "InputSpec",
    "InstanceFeatures",
    "LayerGroup",
    "Plugin",
    "PredictSpec",
    "Role",
    "ScoreKind",
    "Tap",
    "WeightReport",
    "capture",
    "class_log_probabilities",
    "class_probabilities",
    "constants",
    "get_plugin",
    "interpolate",
    "label_maps",
    "map_groups",
    "plugin_names",
    "record",
    "score_kind",
    "tap_features",
]
