"""Render a small inspection dataset: a camera above a plate with screws and defects.

Two domains. "source" is brushed steel with cross-recess screws under an even lamp; "target" is an enamelled cover with
black hex-socket screws, a lamp from the side, haze, blur and a colour cast. They share four classes, each has one that
the other lacks, and their category ids differ, as when a team moves a model to its own line.

    python -m tlvision.synthetic.inspection --out data/inspection/target --domain target
"""

from tlvision.synthetic.inspection.dataset import Domain, domain_classes, render_inspection

__all__ = ["Domain", "domain_classes", "render_inspection"]
