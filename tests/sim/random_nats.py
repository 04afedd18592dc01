"""NATs as hypothesis draws them: any combination of behaviours that is one, within what can be told apart from outside."""

from __future__ import annotations

from hypothesis import assume
from hypothesis import strategies as st

from rawpunch.errors import BadParameter
from rawpunch.nat import behavior as nat
from rawpunch.nat.behavior import Allocation, Behavior, Ports, Timers
from rawpunch.units import SECOND

_BANDS = st.tuples(st.integers(1_024, 60_000), st.integers(300, 30_000)).map(
    lambda band: (band[0], min(65_535, band[0] + band[1]))
)


@st.composite
def ports(draw: st.DrawFn) -> Ports:
    """A port allocation."""
    allocation = draw(st.sampled_from(Allocation))
    low, high = draw(_BANDS) if allocation in {Allocation.BANDED, Allocation.SEQUENTIAL} else (1_024, 65_535)
    stepping = allocation is Allocation.SEQUENTIAL
    stride = draw(st.sampled_from([1, 2, 3, 4, 5, 8, 16, -1, -2, -3])) if stepping else 1
    return Ports(
        allocation=allocation,
        low=low,
        high=high,
        fallback=draw(st.sampled_from(nat.Pick)),
        start=draw(st.integers(low, high)) if stepping and draw(st.booleans()) else None,
        stride=stride,
        block_size=draw(st.sampled_from([256, 500, 512, 1_000, 2_048])) if allocation is Allocation.BLOCK else 0,
        block_pick=draw(st.sampled_from([nat.Pick.RANDOM, nat.Pick.SEQUENTIAL])),
        keeps_parity=draw(st.booleans()) and stride % 2 == 1,  # an even stride never leads to a port of the other parity
        overloading=draw(st.booleans()),
    )


@st.composite
def behaviors(draw: st.DrawFn) -> Behavior:
    """A NAT."""
    answer = draw(st.sampled_from(nat.UnsolicitedAnswer))
    held = answer in {nat.UnsolicitedAnswer.RST, nat.UnsolicitedAnswer.ICMP} and draw(st.booleans())
    addresses = draw(st.sampled_from([1, 1, 1, 2, 4]))
    states = st.sets(st.sampled_from(nat.CLOSABLE)).map(tuple)
    transitory = st.sampled_from([4 * SECOND, 30 * SECOND, 240 * SECOND])
    try:
        return Behavior(
            mapping=draw(st.sampled_from(nat.Mapping)),
            filtering=draw(st.sampled_from(nat.Filtering)),
            ports=draw(ports()),
            external_addresses=addresses,
            pooling=draw(st.sampled_from(nat.Pooling)) if addresses > 1 else nat.Pooling.PAIRED,
            hairpinning=draw(st.sampled_from(nat.Hairpinning)),
            timers=Timers(
                syn_sent_ns=draw(transitory), syn_recv_ns=draw(transitory), close_ns=draw(st.sampled_from([SECOND, 10 * SECOND]))
            ),
            refreshed_by=draw(st.sampled_from(nat.Refresh)),
            unsolicited=answer,
            unsolicited_hold_ns=6 * SECOND if held else 0,
            crossing_syn=draw(st.sampled_from(nat.CrossingSyn)),
            syn_ack_out=draw(st.sampled_from(nat.SynAckOut)),
            invalid=draw(st.sampled_from(nat.Invalid)),
            picks_up=draw(st.booleans()),
            number_check=draw(st.sampled_from(nat.NumberCheck)),
            rst_closes=draw(states),
            icmp_closes=draw(states),
            icmp_translated=draw(st.booleans()),
            rewrites_sequence=draw(st.booleans()),
            capacity=draw(st.sampled_from([1_000, 262_144])),
            when_full=draw(st.sampled_from(nat.WhenFull)),
        )
    except BadParameter:
        assume(False)
        raise
