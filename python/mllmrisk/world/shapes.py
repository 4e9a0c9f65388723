"""Anti-aliased shapes: how much of each pixel a shape covers, from its signed distance (no supersampling).

Coordinates are those of the subject's box: the centre is 0, the sides are at -1 and 1, y points down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Plane: TypeAlias = npt.NDArray[np.float32]


class Ellipse(NamedTuple):
    """An ellipse by its centre and half axes."""

    x: float
    y: float
    rx: float
    ry: float

    def distance(self, x: Plane, y: Plane) -> Plane:
        """How far each point lies inside; exact on the edge to first order."""
        u, v = (x - self.x) / self.rx, (y - self.y) / self.ry
        radius = np.sqrt(u * u + v * v)
        slope = np.sqrt((u / self.rx) ** 2 + (v / self.ry) ** 2)
        return np.asarray(radius * (1 - radius) / np.maximum(slope, 1e-4), np.float32)


class Polygon(NamedTuple):
    """A convex polygon by its corners, clockwise on the screen."""

    corners: tuple[tuple[float, float], ...]

    def distance(self, x: Plane, y: Plane) -> Plane:
        """How far each point lies inside the nearest edge's line."""
        inside = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf, np.float32)
        for (x0, y0), (x1, y1) in zip(self.corners, self.corners[1:] + self.corners[:1], strict=True):
            length = float(np.hypot(x1 - x0, y1 - y0))
            nx, ny = (y0 - y1) / length, (x1 - x0) / length
            np.minimum(inside, (x - x0) * nx + (y - y0) * ny, out=inside)
        return inside


class Stroke(NamedTuple):
    """A line with round ends, by its end points and half width."""

    x0: float
    y0: float
    x1: float
    y1: float
    half: float

    def distance(self, x: Plane, y: Plane) -> Plane:
        """How far each point lies inside the stroke."""
        dx, dy = self.x1 - self.x0, self.y1 - self.y0
        along = np.clip(((x - self.x0) * dx + (y - self.y0) * dy) / (dx * dx + dy * dy), 0, 1)
        return np.asarray(self.half - np.hypot(x - self.x0 - along * dx, y - self.y0 - along * dy), np.float32)


Shape: TypeAlias = Ellipse | Polygon | Stroke


def box(left: float, top: float, right: float, bottom: float) -> Polygon:
    """A rectangle."""
    return Polygon(((left, top), (right, top), (right, bottom), (left, bottom)))


def coverage(shape: Shape, x: Plane, y: Plane, scale: float) -> Plane:
    """The share of each pixel that a shape covers.

    Args:
        shape: the shape.
        x: `(1, width)`, the pixels' centres in the subject's box.
        y: `(height, 1)`, likewise.
        scale: pixels per unit.

    Returns:
        `(height, width)` float32 in [0, 1].
    """
    return np.asarray(np.clip(shape.distance(x, y) * np.float32(scale) + np.float32(0.5), 0, 1), np.float32)
