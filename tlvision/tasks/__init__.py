"""One object per task: it reads labels, writes and measures predictions, and checks data."""

from tlvision.tasks.base import HasPerImage, LabelOptions, MeasureOptions, Metric, Results, Source, Task, metric_names
from tlvision.tasks.registry import get_task, task_names

__all__ = [
    "HasPerImage",
    "LabelOptions",
    "MeasureOptions",
    "Metric",
    "Results",
    "Source",
    "Task",
    "get_task",
    "metric_names",
    "task_names",
]
