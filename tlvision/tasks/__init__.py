"""What differs between tasks: how labels are read, results written, measured and checked. One object per task."""

from tlvision.tasks.base import LabelOptions, MeasureOptions, Metric, Results, Source, Task, metric_names
from tlvision.tasks.registry import get_task, task_names

__all__ = [
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
