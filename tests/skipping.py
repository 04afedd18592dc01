"""Tests that this machine cannot run: left out with the reason, or failed where nothing may be left out."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

REQUIRE_LAB = "RAWPUNCH_REQUIRE_LAB"


def skip_or_fail(why: str) -> NoReturn:
    """Skip the test that runs; with RAWPUNCH_REQUIRE_LAB=1, as in CI, fail it."""
    if os.environ.get(REQUIRE_LAB) == "1":
        pytest.fail(f"{why}, and {REQUIRE_LAB}=1 lets nothing be skipped", pytrace=False)
    pytest.skip(why)
