"""Run all checks on the datasets of a config."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tlvision.analysis.doctor.findings import Finding, Part, worst
from tlvision.analysis.doctor.objects import class_balance, label_conflicts, suspicious_boxes
from tlvision.analysis.doctor.pictures import pictures
from tlvision.analysis.doctor.reading import read_parts
from tlvision.config.schema import Config

CHECKS: tuple[Callable[[Sequence[Part]], list[Finding]], ...] = (
    pictures,
    label_conflicts,
    suspicious_boxes,
    class_balance,
)


def examine(config: Config) -> tuple[list[Part], list[Finding]]:
    """Return the datasets of a config that can be read, and all findings, the worst first; nothing is trained."""
    parts, findings = read_parts(config)
    for check in CHECKS:
        findings += check(parts)
    return parts, worst(findings)
