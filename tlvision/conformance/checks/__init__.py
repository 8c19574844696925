"""All checks, in the order in which they are run and listed."""

from __future__ import annotations

from tlvision.conformance.check import Check
from tlvision.conformance.checks.capabilities import capabilities_are_true, training_progress_is_pure
from tlvision.conformance.checks.groups import declared_sizes_work, group_order, groups_partition, taps
from tlvision.conformance.checks.losses import (
    bf16_autocast,
    gradients_reach_every_group,
    images_without_objects,
    inputs_stay_unchanged,
    loss_is_a_mean_over_images,
    losses_finite_and_differentiable,
    trained_state_is_in_module,
)
from tlvision.conformance.checks.training import (
    evaluation_deterministic,
    frozen_prefix,
    group_learning_rates,
    training_goes_on_after_evaluation,
)

ALL_CHECKS: tuple[Check, ...] = (
    capabilities_are_true,
    groups_partition,
    group_order,
    taps,
    declared_sizes_work,
    losses_finite_and_differentiable,
    images_without_objects,
    loss_is_a_mean_over_images,
    inputs_stay_unchanged,
    gradients_reach_every_group,
    trained_state_is_in_module,
    bf16_autocast,
    training_progress_is_pure,
    group_learning_rates,
    frozen_prefix,
    evaluation_deterministic,
    training_goes_on_after_evaluation,
)
