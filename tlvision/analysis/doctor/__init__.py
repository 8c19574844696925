"""Examine the datasets of a config: what training refuses, what makes results wrong, what is worth a look."""

from tlvision.analysis.doctor.examine import examine
from tlvision.analysis.doctor.findings import Finding
from tlvision.analysis.doctor.fix import fix_data
from tlvision.analysis.doctor.page import write_doctor_page

__all__ = ["Finding", "examine", "fix_data", "write_doctor_page"]
