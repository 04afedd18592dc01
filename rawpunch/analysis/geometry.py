"""A little plane geometry for drawings: where lines meet, and whether turned boxes overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass

Point = tuple[float, float]
Stretch = tuple[Point, Point]


def meeting(one: Stretch, other: Stretch) -> Point | None:
    """Where two stretches meet, or None; parallel ones never do."""
    (ax, ay), (bx, by) = one
    (cx, cy), (dx, dy) = other
    cross = (bx - ax) * (dy - cy) - (by - ay) * (dx - cx)
    if abs(cross) < 1e-9:
        return None
    along_one = ((cx - ax) * (dy - cy) - (cy - ay) * (dx - cx)) / cross
    along_other = ((cx - ax) * (by - ay) - (cy - ay) * (bx - ax)) / cross
    if 0 <= along_one <= 1 and 0 <= along_other <= 1:
        return ax + along_one * (bx - ax), ay + along_one * (by - ay)
    return None


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: its middle, width and height, and how it is turned (radians)."""

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0

    def corners(self) -> tuple[Point, Point, Point, Point]:
        """The corners, in order round the box."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        w, h = self.width / 2, self.height / 2

        def turned(dx: float, dy: float) -> Point:
            return self.x + dx * cos - dy * sin, self.y + dx * sin + dy * cos

        return turned(-w, -h), turned(w, -h), turned(w, h), turned(-w, h)

    def overlaps(self, other: Box) -> bool:
        """Whether two boxes share more than an edge (separating axis test)."""
        for angle in (self.angle, self.angle + math.pi / 2, other.angle, other.angle + math.pi / 2):
            cos, sin = math.cos(angle), math.sin(angle)
            mine = [x * cos + y * sin for x, y in self.corners()]
            others = [x * cos + y * sin for x, y in other.corners()]
            if max(mine) <= min(others) or max(others) <= min(mine):
                return False
        return True

    def touches(self, stretch: Stretch) -> bool:
        """Whether a stretch crosses an edge of the box or ends on one."""
        corners = self.corners()
        return any(meeting(stretch, (corners[index], corners[(index + 1) % 4])) is not None for index in range(4))
