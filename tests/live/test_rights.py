"""What raw packets take is found out by trying, and the doctor says in one line what is missing and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LACKING = [sys.executable, str(Path(__file__).with_name("lacking.py"))]


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("TCP_REPAIR", "TCP_REPAIR: Protocol not available"),
        ("packet sockets", "packet sockets: Address family not supported by protocol"),
    ],
)
def test_the_doctor_names_what_raw_packets_lack(lacks: str, said: str) -> None:
    """A lack is no reason to fail: the lab works without, and so does punching by the kernel."""
    program = "import json, sys; from rawpunch.cli.doctor_command import raw_punching; print(json.dumps(raw_punching().said))"
    done = subprocess.run([*LACKING, lacks, sys.executable, "-c", program], capture_output=True, text=True, check=True)
    line = json.loads(done.stdout)
    assert said in line
    assert "the kernel punches instead; inside a lab: " in line


def test_nothing_of_it_stays() -> None:
    """Asked in a process without rights, each part is named; no file stays open, and no thread."""
    program = (
        "import os, threading, time\n"
        "from rawpunch.live.rights import lacks\n"
        "from tests.live.lacking import lack\n"
        "lack('all rights')\n"
        "before = len(os.listdir('/proc/self/fd'))\n"
        "print(*lacks(), sep='\\n')\n"
        "time.sleep(0.2)\n"
        "assert len(os.listdir('/proc/self/fd')) == before\n"
        "assert threading.active_count() == 1\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == [
        f"{part}: Operation not permitted" for part in ("raw sockets", "TCP_REPAIR", "the guard", "packet sockets")
    ]
