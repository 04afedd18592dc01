"""What all tests share: where lab tests run, and that no developer's own settings leak in."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from functools import cache

import hypothesis
import pytest

from tests.skipping import REQUIRE_LAB, skip_or_fail

# a stalled machine is no failure of a pure function; CI asks the same questions each time, a developer's machine asks new ones
hypothesis.settings.register_profile("rawpunch", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("rawpunch")


def pytest_configure(config: pytest.Config) -> None:
    """Start from the built-in defaults: neither RAWPUNCH_* variables nor a settings file of the person who tests.

    Ctrl-C is one of them: a shell's background job ignores it, and so would all commands that are tried here.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("RAWPUNCH_") and name != REQUIRE_LAB]:
        del os.environ[name]
    folder = tempfile.TemporaryDirectory(prefix="rawpunch-tests-")
    config.add_cleanup(folder.cleanup)
    os.environ["XDG_CONFIG_HOME"] = folder.name


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a lab or a tool that is not here, saying why; with RAWPUNCH_REQUIRE_LAB=1, as in CI, fail it instead."""
    lacking = [f"there is no {tool}" for mark in item.iter_markers("tool") for tool in mark.args if shutil.which(tool) is None]
    if item.get_closest_marker("lab") is not None and (why := why_no_lab()):
        lacking.append(why)
    if lacking:
        skip_or_fail(", ".join(lacking))


@cache
def why_no_lab() -> str:
    """The reason why this machine can make no namespaces, as its user or as it is; "" if it can."""
    from rawpunch.lab import features  # noqa: PLC0415 - tests of pure floors do not pay for the lab

    rootless = features.user_namespaces()
    as_it_is = rootless and features.root_namespaces()
    return as_it_is and f"no user namespaces ({rootless}) and no others ({as_it_is})"
