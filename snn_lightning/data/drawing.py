"""Pictures of shapes on cluttered backgrounds, and which of their pixels are whose."""

from dataclasses import dataclass
from math import tau

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SHAPES = ("circle", "ring", "square", "star", "triangle")

FINE = 4
"""Shapes are drawn so many times larger and brought down: smooth edges."""

MOST = 5
SIZES = (0.18, 0.5)
"""The longer side of a shape, over the picture's size."""
VISIBLE = 0.4
"""So much of every shape is left by those that cover it."""
TRIES = 20

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Picture:
    """A picture and the shapes in it.

    Args:
        pixels: `[H, W, 3]`, uint8.
        shapes: positions in `SHAPES`.
        masks: `[H, W]` of each, what is visible of it.
    """

    pixels: NDArray[np.uint8]
    shapes: list[int]
    masks: list[Mask]


def draw_picture(random: np.random.Generator, size: int) -> Picture:
    """Draw one to five shapes of random kind, size, rotation, colour and texture, partly over each other.

    Args:
        random: decides everything.
        size: H and W, or the shorter of them: one in three pictures is higher, one wider by a quarter.

    Example:
        >>> picture = draw_picture(np.random.default_rng(2), size=32)
        >>> picture.pixels.shape, [SHAPES[shape] for shape in picture.shapes]
        ((40, 32, 3), ['star', 'ring', 'triangle'])
    """
    longer = size + size // 4
    height, width = ((size, size), (size, longer), (longer, size))[random.integers(3)]
    canvas = _background(random, height, width)
    shapes: list[int] = []
    masks: list[Mask] = []
    areas: list[int] = []
    for _ in range(random.integers(1, MOST + 1)):
        shape = int(random.integers(len(SHAPES)))
        alpha = _silhouette(random, shape, size * random.uniform(*SIZES))
        for _ in range(TRIES):
            top = random.integers(height - alpha.shape[0] + 1)
            left = random.integers(width - alpha.shape[1] + 1)
            window = (slice(top, top + alpha.shape[0]), slice(left, left + alpha.shape[1]))
            mask = np.zeros((height, width), dtype=bool)
            mask[window] = alpha >= 0.5
            rest = [other & ~mask for other in masks]
            visible = all(part.sum() >= VISIBLE * area for part, area in zip(rest, areas, strict=True))
            if visible and mask.any():
                canvas[window] = _filled(random, canvas[window], alpha)
                shapes, masks, areas = [*shapes, shape], [*rest, mask], [*areas, int(mask.sum())]
                break
    canvas += random.normal(0, 4, canvas.shape)
    return Picture(np.clip(canvas, 0, 255).round().astype(np.uint8), shapes, masks)


def _silhouette(random: np.random.Generator, shape: int, extent: float) -> Values:
    """Draw a shape whose longer side is `extent` pixels: how much of each pixel it covers."""
    corners = _corners(SHAPES[shape]) @ _rotation(random.uniform(0, tau))
    low, high = corners.min(0), corners.max(0)
    points = (corners - low) * (FINE * extent / (high - low).max())
    columns, rows = np.ceil(points.max(0) / FINE).astype(int)
    image = Image.new("L", (int(columns) * FINE, int(rows) * FINE))
    draw = ImageDraw.Draw(image)
    draw.polygon([(x, y) for x, y in points.tolist()], fill=255)
    if SHAPES[shape] == "ring":
        middle = points.mean(0)
        draw.polygon([(x, y) for x, y in (middle + 0.5 * (points - middle)).tolist()], fill=0)
    return np.asarray(image.reduce(FINE), dtype=np.float64) / 255


def _corners(name: str) -> Values:
    """Return the corners of a shape around the origin, `[n, 2]`."""
    count = {"triangle": 3, "square": 4, "star": 10}.get(name, 48)
    angles = np.arange(count) * tau / count
    radii = np.where(np.arange(count) % 2, 0.42, 1.0) if name == "star" else np.ones(count)
    return radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)


def _rotation(angle: float) -> Values:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


def _filled(random: np.random.Generator, below: Values, alpha: Values) -> Values:
    """Lay a shape of some colour and texture over a part of the picture."""
    colours = random.uniform(0, 255, (4, 3))
    colour = colours[np.abs(colours - below.mean((0, 1))).sum(1).argmax()]  # the one that stands out most
    height, width = alpha.shape
    rows, columns = np.indices((height, width))
    wave = rows * np.cos(angle := random.uniform(0, tau)) + columns * np.sin(angle)
    period = random.uniform(0.1, 0.5) * max(height, width)
    kind = random.integers(3)
    if kind == 0:  # shaded
        texture = wave / max(height, width) - 0.5
    elif kind == 1:  # striped
        texture = np.sign(np.sin(wave * tau / period))
    else:  # mottled
        texture = _clouds(random, rows.shape[0], rows.shape[1], cells=6, channels=1)[..., 0]
    tint = random.uniform(-35, 35, 3)
    return below + alpha[..., None] * (colour + texture[..., None] * tint - below)


def _background(random: np.random.Generator, height: int, width: int) -> Values:
    """Draw clouds of colours, and blobs and lines that are no shapes."""
    canvas = random.uniform(60, 195, 3) + 45 * _clouds(random, height, width, cells=4)
    canvas += 25 * _clouds(random, height, width, cells=16, channels=1)
    unit = min(height, width)
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(random.integers(3, 8)):
        place = random.uniform(0, 1, 2) * (width, height)
        draw.polygon([(x, y) for x, y in (place + _blob(random, unit)).tolist()], fill=_any_colour(random))
    image = image.filter(ImageFilter.GaussianBlur(unit / 50))
    draw = ImageDraw.Draw(image)
    for _ in range(random.integers(2, 7)):
        points = random.uniform(0, 1, (3, 2)) * (width, height)
        draw.line(
            [(x, y) for x, y in points.tolist()],
            fill=_any_colour(random),
            width=max(1, round(unit * random.uniform(0.005, 0.02))),
        )
    return np.asarray(image, dtype=np.float64).copy()


def _blob(random: np.random.Generator, unit: int) -> Values:
    """Return the corners of something irregular and smooth, `[n, 2]`."""
    angles = np.arange(40) * tau / 40
    bulges, dents = (random.uniform(0.1, 0.4) * np.sin(k * angles + random.uniform(0, tau)) for k in (2, 3))
    radii = unit * random.uniform(0.03, 0.12) * (1 + bulges + dents)
    return radii[:, None] * np.stack([np.cos(angles) * random.uniform(0.5, 2), np.sin(angles)], 1)


def _clouds(random: np.random.Generator, height: int, width: int, cells: int, channels: int = 3) -> Values:
    """Return smooth noise in -1…1, `[H, W, channels]`."""
    noise = random.uniform(-1, 1, (channels, cells, cells)).astype(np.float32)
    layers = [Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC) for layer in noise]
    return np.stack([np.asarray(layer, dtype=np.float64) for layer in layers], -1)


def _any_colour(random: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = random.integers(0, 256, 3).tolist()
    return red, green, blue
