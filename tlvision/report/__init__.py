"""Write pictures with predictions drawn in, and one HTML page for each run."""

from tlvision.report.draw import contact_sheet, draw_prediction
from tlvision.report.experiment_page import write_adapt_page
from tlvision.report.page import write_report

__all__ = ["contact_sheet", "draw_prediction", "write_adapt_page", "write_report"]
