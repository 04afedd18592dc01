"""A NAT's behaviour as nft rules, and the rules of the core.

A bare ACK or a late RST that conntrack calls INVALID would leave untranslated, with its private source address: hence the drop of
INVALID in forward, and the counter of private sources in the core, which must stay at zero.
"""

from __future__ import annotations

from typing import Final

from rawpunch.scene import Nat, UnsolicitedAnswer

TABLE: Final = "rawpunch"
LEAK_COUNTER: Final = "private_leaks"
PRIVATE: Final = "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16"

_ANSWERS: Final = {
    UnsolicitedAnswer.DROP: "counter name unsolicited drop",
    UnsolicitedAnswer.RST: "counter name unsolicited reject with tcp reset",
    UnsolicitedAnswer.ICMP: "counter name unsolicited reject with icmp type admin-prohibited",
    UnsolicitedAnswer.STACK: "counter name unsolicited accept",
}


def nat_ruleset(nat: Nat | None) -> str:
    """The nft script of a NAT box between its devices `in` and `out`; a plain router for None.

    The script replaces what an earlier one of ours set up, in one transaction, so that a lab can change its NATs in between.
    """
    start = f"table ip {TABLE} {{}}\ndelete table ip {TABLE}\n"
    if nat is None:
        return start
    answer = _ANSWERS[nat.unsolicited]
    return f"""{start}table ip {TABLE} {{
  counter unsolicited {{ }}
  counter invalid {{ }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "out" masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state invalid counter name invalid drop
    ct state established,related accept
    iifname "in" oifname "out" accept
    meta l4proto tcp {answer}
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "in" accept
    ct state established,related accept
    meta l4proto tcp {answer}
  }}
}}
"""


def core_ruleset() -> str:
    """The nft script of the core: it counts and drops packets with a private source address, the lab's invariant."""
    return f"""table ip {TABLE} {{}}
delete table ip {TABLE}
table ip {TABLE} {{
  counter {LEAK_COUNTER} {{ }}
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    ip saddr {{ {PRIVATE} }} counter name {LEAK_COUNTER} drop
  }}
}}
"""
