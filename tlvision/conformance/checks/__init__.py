"""All checks, in the order in which they are run and listed."""

from __future__ import annotations

from tlvision.conformance.check import Check
from tlvision.conformance.checks.capabilities import (
    capabilities_are_true,
    instance_features_are_of_their_boxes,
    scores_have_gradients,
    training_progress_is_pure,
)
from tlvision.conformance.checks.classes import any_number_of_classes, head_by_class_name
from tlvision.conformance.checks.dense import scores_are_as_declared, scores_for_every_pixel
from tlvision.conformance.checks.export import export_reads_as_predicted, export_reads_as_scored
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
from tlvision.conformance.checks.masks import loss_depends_on_masks, masks_are_learnt, masks_are_masks
from tlvision.conformance.checks.predictions import overfits_one_image, predictions_stand_alone, predictions_valid
from tlvision.conformance.checks.process import (
    building_leaves_the_process_alone,
    import_is_light,
    input_spec_and_batches_pickle,
    plugin_describes_itself,
)
from tlvision.conformance.checks.resume import fresh_builds_are_seeded, resume_gives_the_identical_next_step
from tlvision.conformance.checks.training import (
    copies_are_separate,
    evaluation_deterministic,
    frozen_prefix,
    group_learning_rates,
    training_goes_on_after_evaluation,
)
from tlvision.conformance.checks.weights import (
    errors_are_for_people,
    weight_report_complete,
    weights_of_another_architecture,
)

ALL_CHECKS: tuple[Check, ...] = (
    plugin_describes_itself,
    import_is_light,
    building_leaves_the_process_alone,
    errors_are_for_people,
    capabilities_are_true,
    fresh_builds_are_seeded,
    weight_report_complete,
    weights_of_another_architecture,
    input_spec_and_batches_pickle,
    groups_partition,
    group_order,
    taps,
    declared_sizes_work,
    losses_finite_and_differentiable,
    images_without_objects,
    loss_is_a_mean_over_images,
    loss_depends_on_masks,
    inputs_stay_unchanged,
    gradients_reach_every_group,
    trained_state_is_in_module,
    bf16_autocast,
    training_progress_is_pure,
    instance_features_are_of_their_boxes,
    scores_have_gradients,
    export_reads_as_predicted,
    export_reads_as_scored,
    group_learning_rates,
    frozen_prefix,
    evaluation_deterministic,
    training_goes_on_after_evaluation,
    copies_are_separate,
    resume_gives_the_identical_next_step,
    any_number_of_classes,
    overfits_one_image,
    predictions_valid,
    scores_for_every_pixel,
    scores_are_as_declared,
    masks_are_masks,
    masks_are_learnt,
    predictions_stand_alone,
    head_by_class_name,
)
