"""SVG elements as text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rawpunch.analysis.geometry import Point


def element(tag: str, content: str = "", /, **attributes: str | float) -> str:
    """One element; `content` is markup already. Numbers are rounded to a tenth; ``stroke_width`` becomes ``stroke-width``."""
    written = "".join(f' {name.replace("_", "-")}="{_value(value)}"' for name, value in attributes.items())
    return f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>"


def text(words: str, x: float, y: float, /, **attributes: str | float) -> str:
    """A text element; the words are escaped."""
    return element("text", escape(words, quote=False), x=x, y=y, **attributes)


def span(words: str, /, **attributes: str | float) -> str:
    """A part of a text; the words are escaped."""
    return element("tspan", escape(words, quote=False), **attributes)


def track(points: Sequence[Point], *, closed: bool = False) -> str:
    """The `d` of a path through points."""
    return "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points) + (" Z" if closed else "")


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return escape(value)
    return f"{value:.1f}".removesuffix(".0")
