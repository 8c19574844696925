from __future__ import annotations

import numpy as np

from tlvision.formats.coco.rules import box_area, check_boxes, xywh_to_xyxy, xyxy_to_xywh


def test_area_is_width_times_height_and_not_a_coordinate() -> None:
    # A published code base filled a missing area with y * w.
    assert box_area(np.array([[10.0, 20.0, 13.0, 24.0]])).tolist() == [12.0]


def test_corners_and_sides_are_inverse_and_leave_their_argument_alone() -> None:
    xywh = np.array([[1.5, 2.0, 3.0, 4.0], [0.0, 0.0, 10.0, 1.0]])
    before = xywh.copy()
    assert xywh_to_xyxy(xywh).tolist() == [[1.5, 2.0, 4.5, 6.0], [0.0, 0.0, 10.0, 1.0]]
    assert (xyxy_to_xywh(xywh_to_xyxy(xywh)) == before).all()
    assert (xywh == before).all()


def test_every_kind_of_bad_box_gets_its_own_flag() -> None:
    nan, inf = float("nan"), float("inf")
    boxes = {
        "good": [1, 1, 5, 5],
        "touches the border": [0, 0, 10, 8],
        "nan": [nan, 1, 2, 2],
        "infinite": [1, 1, inf, 2],
        "negative width": [5, 5, -2, 2],
        "zero height": [5, 5, 2, 0],
        "too thin for float32": [9.5, 1, 1e-9, 2],
        "outside right": [10, 1, 3, 3],
        "outside above": [1, -5, 3, 5],
        "sticks out": [8, -1, 5, 3],
    }
    found = check_boxes(np.array(list(boxes.values()), np.float64), np.array([[10.0, 8.0]] * len(boxes)))
    names = np.array(list(boxes))
    assert names[found.not_finite].tolist() == ["nan", "infinite"]
    assert names[found.empty].tolist() == ["negative width", "zero height", "too thin for float32"]
    assert names[found.outside].tolist() == ["outside right", "outside above"]
    assert names[found.clipped].tolist() == ["sticks out"]
    assert names[found.valid].tolist() == ["good", "touches the border", "sticks out"]
    assert found.corners[-1].tolist() == [8.0, 0.0, 10.0, 2.0]
    corners = found.corners[found.valid]
    assert (corners[:, 2:] > corners[:, :2]).all()
