"""Transfer methods and observers, one idea a file."""

from tlvision.hooks.base import Context, DataHook, Hook, ModelHook, ObjectiveHook, ObserverHook, SetupHook, StepData
from tlvision.hooks.plan import Duration, ParameterPlan, Plan, Schedule, initial_plan

__all__ = [
    "Context",
    "DataHook",
    "Duration",
    "Hook",
    "ModelHook",
    "ObjectiveHook",
    "ObserverHook",
    "ParameterPlan",
    "Plan",
    "Schedule",
    "SetupHook",
    "StepData",
    "initial_plan",
]
