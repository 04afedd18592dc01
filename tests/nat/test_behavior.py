"""A behaviour can only be one that a NAT can have, and its table says it exactly."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.errors import BadParameter
from rawpunch.nat.behavior import (
    CLOSABLE,
    Allocation,
    Behavior,
    CrossingSyn,
    Filtering,
    Mapping,
    Ports,
    SessionState,
    Timers,
    UnsolicitedAnswer,
)
from rawpunch.nat.reading import behavior_of, paths_of, table_of
from rawpunch.units import SECOND


@pytest.mark.parametrize(
    "table",
    [
        {"ports": {"allocation": "banded"}},
        {"ports": {"allocation": "random", "high": 2000}},
        {"ports": {"stride": 2}},
        {"ports": {"start": 5000}},
        {"ports": {"allocation": "sequential", "start": 1}},
        {"ports": {"allocation": "sequential", "stride": 0}},
        {"ports": {"allocation": "block"}},
        {"ports": {"block_size": 64}},
        {"ports": {"allocation": "block", "block_size": 64, "low": 1030, "high": 1100}},
        {"ports": {"allocation": "block", "block_size": 64, "block_pick": "none"}},
        {"ports": {"low": 0}},
        {"ports": {"low": 9, "high": 8}},
        {"filtering": "endpoint_independent", "ports": {"overloading": True}},
        {"external_addresses": 0},
        {"capacity": 0},
        {"pooling": "arbitrary"},
        {"unsolicited_hold_ns": -1},
        {"unsolicited_hold_ns": "6s"},
        {"unsolicited": "stack", "unsolicited_hold_ns": "6s"},
        {"unsolicited": "icmp", "unsolicited_icmp_code": 4},
        {"unsolicited": "rst", "unsolicited_icmp_code": 3},
        {"rst_closes": ["CLOSE"]},
        {"icmp_closes": ["NONE"]},
        {"timers": {"syn_sent_ns": 0}},
    ],
    ids=str,
)
def test_impossible_combinations_are_refused_with_a_reason(table: dict[str, Any]) -> None:
    """What cannot be is not built: the message says what, and why."""
    with pytest.raises(BadParameter) as refused:
        behavior_of(table)
    assert refused.value.why or refused.value.todo


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"maping": "x"}, "maping"),
        ({"ports": {"strid": 2}}, "ports.strid"),
        ({"mapping": "symmetric"}, "mapping"),
        ({"ports": 5}, "ports"),
        ({"rst_closes": "SYN_SENT"}, "rst_closes"),
        ({"rst_closes": ["SYN"]}, "rst_closes"),
        ({"picks_up": 1}, "picks_up"),
        ({"capacity": "many"}, "capacity"),
        ({"capacity": True}, "capacity"),
        ({"timers": {"syn_sent_ns": 1.5}}, "timers.syn_sent_ns"),
    ],
)
def test_a_wrong_field_or_value_is_refused_by_name(table: dict[str, Any], named: str) -> None:
    """The message names the field as it would have to be written."""
    with pytest.raises(BadParameter) as refused:
        behavior_of(table)
    assert named in refused.value.what
    assert refused.value.todo


def test_times_may_be_words() -> None:
    """A time is nanoseconds, or a number with a unit."""
    assert behavior_of({"timers": {"established_ns": "124min"}}).timers.established_ns == 7440 * SECOND


def test_a_list_of_states_has_one_order() -> None:
    """Two behaviours that say the same are equal, however they were written."""
    written = behavior_of({"rst_closes": ["ESTABLISHED", "SYN_SENT"]})
    assert written == behavior_of({"rst_closes": ["SYN_SENT", "ESTABLISHED", "SYN_SENT"]})
    assert written.rst_closes == (SessionState.SYN_SENT, SessionState.ESTABLISHED)


def test_a_behaviour_can_be_told_as_changes_to_another() -> None:
    """Fields that are not named are the base's."""
    base = Behavior(crossing_syn=CrossingSyn.BLOCKED)
    changed = behavior_of({"unsolicited": "rst"}, base)
    assert (changed.crossing_syn, changed.unsolicited) == (CrossingSyn.BLOCKED, UnsolicitedAnswer.RST)


def test_every_state_has_its_time() -> None:
    """A session in any state ends by itself."""
    timers = Timers(close_ns=7)
    assert timers.of(SessionState.CLOSE) == 7
    assert all(timers.of(state) > 0 for state in SessionState if state is not SessionState.NONE)


def test_the_paths_of_a_behaviour_are_all_its_fields() -> None:
    """What a persona must give a source for."""
    paths = paths_of(Behavior())
    assert paths["ports.allocation"] is Allocation.PRESERVING
    assert {"mapping", "timers.close_ns", "ports.start"} <= set(paths)
    assert not {"ports", "timers"} & set(paths)


behaviors = st.builds(
    Behavior,
    mapping=st.sampled_from(Mapping),
    filtering=st.sampled_from([Filtering.ADDRESS_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT]),
    ports=st.builds(
        Ports,
        allocation=st.just(Allocation.SEQUENTIAL),
        stride=st.integers(1, 9),
        start=st.none() | st.integers(2000, 3000),
        overloading=st.booleans(),
    ),
    rst_closes=st.lists(st.sampled_from(CLOSABLE)).map(tuple),
    rewrites_sequence=st.booleans(),
    timers=st.builds(Timers, close_ns=st.integers(1, 10**12)),
)


@given(behaviors)
def test_a_table_reads_back_as_what_was_written(behavior: Behavior) -> None:
    """table_of and behavior_of are each other's inverse."""
    assert behavior_of(table_of(behavior)) == behavior
    assert hash(behavior_of(table_of(behavior))) == hash(behavior)
