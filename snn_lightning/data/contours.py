"""The outlines of masks as polygons along the edges of pixels."""

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]


def outlines(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Return polygons that together cover exactly the pixels of a mask, as COCO's segmentation has them.

    Pixels that only touch at a corner are of different polygons. COCO's polygons have no holes: a part with a
    hole is cut in two through it.

    Args:
        mask: `[H, W]`.

    Returns:
        x1, y1, x2, y2, … of each polygon, clockwise as seen on a screen.

    Example:
        >>> outlines(np.array([[False, True, True]]))
        [[1.0, 0.0, 3.0, 0.0, 3.0, 1.0, 1.0, 1.0]]
    """
    loops = _loops(mask)
    for loop in loops:
        x, y = np.array(loop).T
        if np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) < 0:  # the border of a hole runs the other way
            cut = (x.min() + x.max()) // 2
            left, right = mask.copy(), mask.copy()
            left[:, cut:] = False
            right[:, :cut] = False
            return outlines(left) + outlines(right)
    return [[float(value) for point in loop for value in point] for loop in loops]


def _loops(mask: NDArray[np.bool_]) -> list[list[Point]]:
    """Walk along all edges between the mask and the rest, with the mask at the right hand."""
    steps = _steps(mask)
    loops = []
    while steps:
        start = position = next(iter(steps))
        direction: Point = (0, 0)
        loop: list[Point] = []
        while True:
            choices = steps[position]
            # Where two parts touch at a corner, turning right stays with the same part.
            right = (-direction[1], direction[0])
            step = right if right in choices else choices[0]
            choices.remove(step)
            if not choices:
                del steps[position]
            if step != direction:
                loop.append(position)
            position, direction = (position[0] + step[0], position[1] + step[1]), step
            if position == start:
                break
        loops.append(loop)
    return loops


def _steps(mask: NDArray[np.bool_]) -> dict[Point, list[Point]]:
    """Return the steps, of one pixel, that lead along the border from each corner of pixels."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    steps: dict[Point, list[Point]] = {}
    sides = (
        (
            ~padded[:-2, 1:-1],
            (0, 0),
            (1, 0),
        ),  # nothing above: along the top, to the right
        (~padded[1:-1, 2:], (1, 0), (0, 1)),
        (~padded[2:, 1:-1], (1, 1), (-1, 0)),
        (~padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    for outside, corner, step in sides:
        for row, column in np.argwhere(inside & outside).tolist():
            steps.setdefault((column + corner[0], row + corner[1]), []).append(step)
    return steps
