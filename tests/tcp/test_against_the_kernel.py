"""The `linux` profile answers as this machine's kernel does: 2,000 segments and ICMP errors in three states, put to both."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rawpunch.wire.segment import Flags
from tests.skipping import skip_or_fail

ROOT = Path(__file__).parents[2]
_FIN, _ACK = int(Flags.FIN), int(Flags.ACK)


def kernel_at_least(major: int, minor: int) -> bool:
    """Whether this is that Linux or a later one."""
    if platform.system() != "Linux":
        return False
    release = platform.release().split("-")[0].split(".")
    return (int(release[0]), int(release[1])) >= (major, minor)


def known(difference: dict[str, Any]) -> str | None:
    """Why a difference is expected, or None.

    The kernel delays the ACK of a FIN; the machine sends it at once (RFC 9293, 3.8.6.3, allows both).
    """
    (said, state), (answered, kernel_state) = difference["machine"], difference["kernel"]
    if difference["flags"] == _FIN | _ACK and state == kernel_state == "CLOSE-WAIT" and said and not answered:
        return "the ACK of a FIN is delayed"
    return None


@pytest.mark.lab
@pytest.mark.skipif(not kernel_at_least(6, 12), reason="the profile is that of Linux 6.12 and later")
def test_the_linux_profile_answers_as_the_kernel_does() -> None:
    """Kind, SEQ, ACK of every answer and the state afterwards are the kernel's, but for one difference that is explained."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        skip_or_fail("/dev/net/tun is not to be had")
    into = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    probe = [*into, sys.executable, "-m", "tests.tcp.kernel_probe"]
    done = subprocess.run(probe, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["probes"] > 2000
    assert [difference for difference in result["differing"] if known(difference) is None] == []
