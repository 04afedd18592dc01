"""A lab's addresses are free within the lab, and nowhere else."""

from __future__ import annotations

import sys

import pytest

from rawpunch.errors import PolicyRefused
from rawpunch.lab import wiring
from rawpunch.lab.lab import Lab
from rawpunch.live import confines
from rawpunch.live.confines import is_free
from rawpunch.live.spray import Sprayer
from rawpunch.scene import EXTERNAL, LAB_HARDWARE, OBSERVERS, Scene
from rawpunch.wire.endpoint import Endpoint

ADDRESSES = [*EXTERNAL.values(), *OBSERVERS["obs1"], "198.18.1.2"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_outside_a_lab_nobody_is_free_for_his_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A route may lead to it, whoever is there."""
    monkeypatch.setattr("rawpunch.live.confines.within_a_lab", lambda: False)
    assert not is_free(Endpoint(address, 9))
    with pytest.raises(PolicyRefused, match="may not be sprayed"):
        Sprayer(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.2.1", "::1"])
def test_the_loopback_is_free(address: str) -> None:
    """Everywhere."""
    assert is_free(Endpoint(address, 9))


@pytest.mark.parametrize(
    ("devices", "within"),
    [
        ({"lo": (0x9, b"")}, False),
        ({"lo": (0x9, b""), "eth0": (0x1, LAB_HARDWARE + b"\0\2")}, True),
        ({"lo": (0x9, b""), "eth0": (0x1, LAB_HARDWARE + b"\0\2"), "tunl0": (0x0, bytes(6))}, True),
        ({"lo": (0x9, b""), "eth0": (0x1, LAB_HARDWARE + b"\0\2"), "eth1": (0x1, bytes.fromhex("0242ac110002"))}, False),
        ({"eth0": (0x1, bytes.fromhex("525400123456"))}, False),
    ],
    ids=["loopback alone", "lab", "a tunnel that is down", "one that is not the lab's", "a machine"],
)
def test_devices_tell(devices: dict[str, tuple[int, bytes]], within: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One device that leads elsewhere is enough to be outside."""

    def ask(_: object, request: int, device: str) -> bytes:
        flags, hardware = devices[device]
        return flags.to_bytes(2, sys.byteorder) if request == confines._SIOCGIFFLAGS else b"\1\0" + hardware

    monkeypatch.setattr(confines, "_ask", ask)
    monkeypatch.setattr("socket.if_nameindex", lambda: list(enumerate(devices, 1)))
    assert confines.within_a_lab() is within


@pytest.mark.lab
def test_each_node_of_a_lab_knows() -> None:
    """By its own devices, as the kernel shows them."""
    code = "from rawpunch.live.confines import within_a_lab; print(within_a_lab())"
    with Lab(Scene()) as lab:
        assert {lab.run(node, [sys.executable, "-c", code]).strip() for node in wiring.NODES} == {"True"}
