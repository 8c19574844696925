"""Write pictures with predictions drawn in, and pages about runs and experiments."""

from tlvision.report.draw import contact_sheet, draw_pair, draw_prediction
from tlvision.report.run_page import write_report

__all__ = ["contact_sheet", "draw_pair", "draw_prediction", "write_report"]
