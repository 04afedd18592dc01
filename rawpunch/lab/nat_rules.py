"""A NAT's behaviour as nft rules, and the rules of the core.

A bare ACK or a late RST that conntrack calls INVALID would leave untranslated, with its private source address: hence the drop of
INVALID in forward, and the counter of private sources in the core, which must stay at zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Final

from rawpunch.link.link import PPM
from rawpunch.nat.behavior import Allocation, Behavior, Invalid, Mapping, Ports
from rawpunch.scene import Nat, UnsolicitedAnswer

TABLE: Final = "rawpunch"
LEAK_COUNTER: Final = "private_leaks"
LOST_COUNTER: Final = "lost"
PRIVATE: Final = "10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16"

_ANSWERS: Final = {
    UnsolicitedAnswer.DROP: "counter name unsolicited drop",
    UnsolicitedAnswer.RST: "counter name unsolicited reject with tcp reset",
    UnsolicitedAnswer.ICMP: "counter name unsolicited reject with icmp type admin-prohibited",
    UnsolicitedAnswer.STACK: "counter name unsolicited accept",
}


_BASE: Final = Behavior()
_FREE: Final = ("unsolicited", "mapping", "ports", "invalid")
"""Fields that rules can vary; the rest is what conntrack does."""
_ELEMENTS: Final = 2_000
_PORT_FIELDS: Final = {
    (Mapping.ENDPOINT_INDEPENDENT, Allocation.PRESERVING): "masquerade",
    (Mapping.PER_CONNECTION, Allocation.RANDOM): "masquerade fully-random",
    (Mapping.ENDPOINT_INDEPENDENT, Allocation.BANDED): "masquerade to :{low}-{high}",
    (Mapping.PER_CONNECTION, Allocation.BANDED): "masquerade to :{low}-{high} random",
    (Mapping.PER_CONNECTION, Allocation.SEQUENTIAL): "snat to {external} : numgen inc mod {count} map @ports",
}
"""What stock nft makes of a mapping and an allocation, measured on Linux 6.18."""


def inexpressible(nat: Nat | None) -> str:
    """Why nft rules cannot be this NAT; "" if they can."""
    if nat is None:
        return ""
    behavior = nat.behavior
    wanted = replace(_BASE, **{name: getattr(behavior, name) for name in _FREE})
    if behavior != wanted:
        other = [field.name for field in fields(Behavior) if getattr(behavior, field.name) != getattr(wanted, field.name)]
        return f"conntrack has no such {', '.join(other)}"
    if behavior.invalid not in (Invalid.DROP, Invalid.LEAK):
        return f"conntrack does not answer INVALID with {behavior.invalid}"
    if (behavior.mapping, behavior.ports.allocation) not in _PORT_FIELDS:
        return f"nft has no {behavior.ports.allocation} allocation with {behavior.mapping} mapping"
    if behavior.ports.keeps_parity or behavior.ports.stride != 1 or not behavior.ports.overloading:
        return "nft knows no parity, no stride and no port of its own for each connection"
    return ""


def nat_ruleset(nat: Nat | None, external: str = "") -> str:
    """The nft script of a NAT box between its devices `in` and `out`; a plain router for None.

    The script replaces what an earlier one of ours set up, in one transaction, so that a lab can change its NATs in between.

    Args:
        nat: the NAT; `inexpressible` says whether rules can be it.
        external: its outside address, for rules that name it.
    """
    start = f"table ip {TABLE} {{}}\ndelete table ip {TABLE}\n"
    if nat is None:
        return start
    answer = _ANSWERS[nat.unsolicited]
    ports = nat.behavior.ports
    translation = _PORT_FIELDS.get((nat.behavior.mapping, ports.allocation), "masquerade").format(
        low=ports.low,
        high=ports.high,
        external=external,
        count=_count(ports),
    )
    counted = f"  map ports {{ typeof numgen inc mod {_count(ports)} : tcp dport; }}\n" if "@ports" in translation else ""
    # what UDP it does not expect it passes over in silence, unless its own stack is to answer
    udp = "" if nat.unsolicited is UnsolicitedAnswer.STACK else "\n    meta l4proto udp drop"
    invalid = "ct state invalid counter name invalid drop" if nat.behavior.invalid is Invalid.DROP else "ct state invalid accept"
    return f"""{start}table ip {TABLE} {{
{counted}  counter unsolicited {{ }}
  counter invalid {{ }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "out" meta l4proto tcp {translation}
    oifname "out" meta l4proto udp {translation}
    oifname "out" masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    {invalid}
    ct state established,related accept
    iifname "in" oifname "out" accept
    meta l4proto tcp {answer}
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "in" accept
    ct state established,related accept
    meta l4proto tcp {answer}{udp}
  }}
}}
"""


def port_map_elements(nat: Nat | None) -> Iterator[str]:
    """Nft scripts that fill the map of ports which a sequential NAT counts through.

    A rootless process may not enlarge its netlink socket's buffer, and all elements at once do not fit into it.
    """
    if nat is None or nat.behavior.ports.allocation is not Allocation.SEQUENTIAL:
        return
    elements = [f"{number} : {port}" for number, port in enumerate(_counted(nat.behavior.ports))]
    for start in range(0, len(elements), _ELEMENTS):
        yield f"add element ip {TABLE} ports {{ {', '.join(elements[start : start + _ELEMENTS])} }}\n"


def _count(ports: Ports) -> int:
    return ports.high - ports.low + 1


def _counted(ports: Ports) -> Iterator[int]:
    """The band's ports in the order in which they are given away, from `start` round to it again."""
    first = ports.low if ports.start is None else ports.start
    yield from range(first, ports.high + 1)
    yield from range(ports.low, first)


def silent_ruleset() -> str:
    """The nft script of a NAT that a program makes: the kernel itself takes nothing in and forwards nothing."""
    return f"""table ip {TABLE} {{}}
delete table ip {TABLE}
table ip {TABLE} {{
  chain prerouting {{
    type filter hook prerouting priority raw; policy drop;
  }}
}}
"""


def core_ruleset(loss_ppm: dict[str, int] | None = None) -> str:
    """The nft script of the core.

    It counts and drops packets with a private source address, the lab's invariant, and loses packets where a leg does.

    Args:
        loss_ppm: device of the core -> share of the packets that are lost on its leg, each way, in parts per million.
    """
    lossy = {device: share for device, share in (loss_ppm or {}).items() if share}
    lines = [
        f'    {way} "{device}" numgen random mod {PPM} < {share} counter name {LOST_COUNTER} drop'
        for device, share in lossy.items()
        for way in ("iifname", "oifname")
    ]
    # before a delay line takes the packets out of this hook
    head = ["  chain lose {", "    type filter hook forward priority mangle - 10; policy accept;"]
    losing = "\n".join([f"  counter {LOST_COUNTER} {{ }}", *head, *lines, "  }", ""]) if lines else ""
    return f"""table ip {TABLE} {{}}
delete table ip {TABLE}
table ip {TABLE} {{
  counter {LEAK_COUNTER} {{ }}
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    ip saddr {{ {PRIVATE} }} counter name {LEAK_COUNTER} drop
  }}
{losing}}}
"""
