"""link: one direction of a link as a machine over opaque items: delay, jitter, loss, duplication, reordering."""

from rawpunch.link.link import PPM, Dice, Entered, Left, Link, Lost, Path

__all__ = ["PPM", "Dice", "Entered", "Left", "Link", "Lost", "Path"]
