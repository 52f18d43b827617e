import numpy as np
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from pycocotools import mask as masks

from snn_lightning.data.contours import outlines


def painted(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    return masks.decode(masks.merge(masks.frPyObjects(polygons, height, width))).astype(bool)


def test_a_rectangle_has_four_corners() -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[1:3, 2:5] = True
    assert outlines(mask) == [[2, 1, 5, 1, 5, 3, 2, 3]]


def test_stairs_have_a_corner_at_every_step() -> None:
    mask = np.array([[True, False], [True, True]])
    assert outlines(mask) == [[0, 0, 1, 0, 1, 1, 2, 1, 2, 2, 0, 2]]


def test_pixels_that_touch_at_a_corner_are_two_polygons() -> None:
    assert len(outlines(np.eye(2, dtype=bool))) == len(outlines(np.eye(2, dtype=bool)[::-1])) == 2


def test_what_has_a_hole_is_cut_through_it() -> None:
    mask = np.ones((3, 3), dtype=bool)
    mask[1, 1] = False
    polygons = outlines(mask)
    assert len(polygons) == 2
    assert np.array_equal(painted(polygons, 3, 3), mask)


def test_nothing_has_no_outline() -> None:
    assert outlines(np.zeros((3, 3), dtype=bool)) == []


@settings(max_examples=200, deadline=None)
@given(arrays(bool, (6, 7)))
def test_polygons_cover_exactly_the_mask(mask: np.ndarray) -> None:
    polygons = outlines(mask)
    assert all(len(polygon) >= 8 for polygon in polygons)
    assert np.array_equal(painted(polygons, 6, 7) if polygons else np.zeros_like(mask), mask)
