"""What a complete probe would report of a NAT, as JSON: the plan's input, made from the NAT itself."""

from __future__ import annotations

from typing import Any

from rawpunch.nat.behavior import Allocation, Behavior, Pick, SessionState, WhenFull

Findings = dict[str, dict[str, Any]]


def findings_of(nat: Behavior | None) -> Findings:
    """Axis -> finding."""
    if nat is None:
        return {"mapping": {"class": "none"}, "terminates_tcp": {"class": "false"}}
    allocation: dict[str, Any] = {"class": nat.ports.allocation.value, "detail": {}}
    steps = nat.ports.allocation is Allocation.SEQUENTIAL or (
        nat.ports.allocation is Allocation.BLOCK and nat.ports.block_pick is Pick.SEQUENTIAL
    )
    if steps:
        allocation["detail"]["stride"] = nat.ports.stride
    if nat.ports.allocation is Allocation.BANDED:
        allocation["detail"]["band"] = [nat.ports.low, nat.ports.high]
    if nat.ports.allocation is Allocation.BLOCK:
        allocation["detail"] |= {"band": [20_480, 20_480 + nat.ports.block_size - 1], "aligned_size": nat.ports.block_size}
    answer = nat.unsolicited.value
    small = nat.capacity < 100
    return {
        "terminates_tcp": {"class": "false"},
        "mapping": {"class": nat.mapping.value},
        "filtering": {"class": nat.filtering.value},
        "port_allocation": allocation,
        "port_parity": {"class": "kept" if nat.ports.keeps_parity else "not_kept"},
        "pooling": {"class": nat.pooling.value, "detail": {"addresses": ["x"] * nat.external_addresses}},
        "unsolicited_syn": {
            "class": "rst" if answer == "stack" else answer,
            "detail": {"held": nat.unsolicited_hold_ns > 0},
        },
        "icmp_in_syn_sent": {"class": "closed" if SessionState.SYN_SENT in nat.icmp_closes else "survives"},
        "icmp_translated": {"class": "translated" if nat.icmp_translated else "dropped"},
        "crossing_syn": {"class": nat.crossing_syn.value},
        "syn_ack_out": {"class": nat.syn_ack_out.value},
        "table": {
            "class": "small" if small else "roomy",
            "detail": {"lived": nat.capacity, "refused": 0 if nat.when_full is WhenFull.EVICT_OLDEST else 3},
        },
    }
