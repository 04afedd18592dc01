"""Where settings are."""

from __future__ import annotations

import os
from typing import Final

NAME: Final = "rawpunch.toml"
ENVIRONMENT: Final = "RAWPUNCH"
"""What the names of variables begin with that set options."""


def files() -> list[str]:
    """The paths of those that are read, the weaker first."""
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111  pathlib takes 3 ms to load
    return [f"{config}/rawpunch/{NAME}", NAME]
