"""A NAT that becomes another one forgets the mappings of the one before."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rawpunch.capture.columns import read_capture
from rawpunch.lab import features
from rawpunch.lab.lab import Lab
from rawpunch.scene import Nat, Scene
from rawpunch.units import MS

PORT = 40_000
NOBODY = "192.0.2.9"
"""An answer would end the mapping."""
SYN = f"""
import socket, sys, time
sock = socket.socket()
sock.bind(("10.1.0.2", {PORT}))
sock.setblocking(False)
sock.connect_ex(("{NOBODY}", int(sys.argv[1])))
time.sleep(0.1)
"""


def _scene(persona: str) -> Scene:
    return Scene.between(Nat(persona=persona), None, 4 * MS)


def _external(lab: Lab, remote_port: int, path: Path) -> int:
    """The port outside that the inside port gets towards another remote port."""
    lab.run("hostA", [sys.executable, "-c", SYN, str(remote_port)])
    lab.flush(path)
    seen = read_capture(path)
    out = seen[(seen["interface"] == "natA:out") & (seen["direction"] == "out") & (seen["destination_port"] == remote_port)]
    return int(out["source_port"].iloc[0])


@pytest.mark.lab
@pytest.mark.parametrize("rootless", [True, False], ids=["rootless", "root"])
def test_a_port_that_was_drawn_is_not_used_by_a_nat_that_keeps_ports(tmp_path: Path, *, rootless: bool) -> None:
    """Conntrack uses an inside port's mapping again, whatever the rules say meanwhile; the same NAT may, another may not."""
    reason = features.user_namespaces() if rootless else features.root_namespaces()
    if reason:
        pytest.skip(f"not possible here: {reason}")
    with Lab(_scene("linux-masquerade-random"), rootless=rootless) as lab:
        lab.record()
        drawn = _external(lab, 5_000, tmp_path / "drawn.pcapng")
        assert drawn != PORT
        lab.change(_scene("linux-masquerade"))
        assert _external(lab, 5_001, tmp_path / "kept.pcapng") == PORT
