"""What this host's kernel would offer in a SYN to a peer: a raw end that is to hand over offers the same."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rawpunch.tcp.state import MAX_SHIFT, Offer

_SETTINGS: Final = Path("/proc/sys/net")
_HEADERS, _HEADERS_6 = 40, 60
"""Octets of an IP and a TCP header without options."""


def kernels_offer(mtu: int, *, ipv6: bool = False) -> Offer:
    """The offer for a way with this MTU, by this network namespace's settings.

    The window's shift is chosen as tcp_select_initial_window does, from the largest receive buffer there may be.
    """
    largest = max(int(_read("ipv4/tcp_rmem").split()[-1]), int(_read("core/rmem_max") or 0))
    shift = min(max(largest.bit_length() - 1 - 15, 0), MAX_SHIFT)
    return Offer(
        mss=min(max(mtu - (_HEADERS_6 if ipv6 else _HEADERS), 1), 0xFFFF),
        window_scale=shift if _read("ipv4/tcp_window_scaling") != "0" else None,
        sack=_read("ipv4/tcp_sack") != "0",
        timestamps=_read("ipv4/tcp_timestamps") != "0",
    )


def _read(name: str) -> str:
    path = _SETTINGS / name
    return path.read_text(encoding="ascii").strip() if path.exists() else ""
