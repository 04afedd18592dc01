"""What can be punched, and how, told by reasoning: the cases that were measured, and the strategies that reasoning ranks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawpunch.nat import oracle, personas
from rawpunch.nat.behavior import Behavior, CrossingSyn, Filtering, Ports, UnsolicitedAnswer, WhenFull
from rawpunch.nat.oracle import Aim, Strategy
from rawpunch.units import MS

OWD = 20 * MS
PATH = (OWD, OWD)


def _nat(name: str) -> Behavior | None:
    return None if name == "none" else personas.load(name).behavior


def _opens(a: str, b: str, offset_ns: int = 0, *, low_ttl: str = "", aim: Aim = Aim.LEARNED) -> bool:
    return oracle.simultaneous(_nat(a), _nat(b), offset_ns=offset_ns, one_way_ns=PATH, low_ttl=low_ttl, aim=aim).works


@pytest.mark.parametrize(
    ("nat", "inside", "outside"),
    [
        ("linux-masquerade", True, True),
        ("rst-sender", True, False),
        ("linux-bare", True, False),
        ("icmp-sender", True, False),
        ("none", True, False),
        ("rfc5382-model", True, False),
    ],
)
def test_what_was_measured_in_the_kernel(nat: str, inside: bool, outside: bool) -> None:
    """Two equal NATs, starts within and beyond the one-way delay (claims C1, C3, C10); the last line follows from REQ-3."""
    assert _opens(nat, nat, OWD - MS, aim=Aim.ASSUMED if nat != "rfc5382-model" else Aim.LEARNED) == inside
    assert _opens(nat, nat, OWD + MS, aim=Aim.ASSUMED if nat != "rfc5382-model" else Aim.LEARNED) == outside


def test_holding_a_syn_makes_timing_irrelevant() -> None:
    """RFC 5382, REQ-4, where the filter does not let the SYN through to a host that is not open yet."""
    held = personas.load("rfc5382-model").behavior
    closed = Behavior(unsolicited=held.unsolicited, unsolicited_hold_ns=held.unsolicited_hold_ns)
    assert oracle.simultaneous(closed, closed, offset_ns=10 * OWD, one_way_ns=PATH).works


def test_against_nats_that_let_no_syn_cross_order_decides() -> None:
    """Measured: 0 of 15 at the same time, 5 of 5 when their side goes last, 5 of 5 when the peer's first SYN dies on the way."""
    assert not _opens("crossing-blocker", "linux-masquerade")
    assert not _opens("crossing-blocker", "linux-masquerade", 2 * OWD)
    assert _opens("crossing-blocker", "linux-masquerade", -2 * OWD)
    assert _opens("crossing-blocker", "linux-masquerade", -2 * MS, low_ttl="b")
    assert not any(_opens("crossing-blocker", "crossing-blocker", offset) for offset in (-2 * OWD, 0, 2 * OWD))


def test_one_nat_that_drops_crossing_syns_is_no_obstacle() -> None:
    """The other side gets the SYN and answers; two of them are one."""
    assert _opens("crossing-dropper", "linux-masquerade")
    assert not _opens("crossing-dropper", "crossing-dropper")


@pytest.mark.parametrize("name", ["symmetric-sequential", "symmetric-random", "carrier-grade-band", "linux-masquerade-random"])
def test_a_port_that_differs_for_each_remote_cannot_be_aimed_at(name: str) -> None:
    """Whatever the timing (claim C12)."""
    assert not any(_opens(name, "full-cone", offset) for offset in (-2 * OWD, 0, 2 * OWD))


def test_without_an_observer_only_a_kept_port_is_known() -> None:
    """Claim C9: a banded mapping is the same for all, but one has to ask for it."""
    assert _opens("linux-masquerade-band", "linux-masquerade", aim=Aim.LEARNED)
    assert not _opens("linux-masquerade-band", "linux-masquerade", aim=Aim.ASSUMED)


def test_sequential_ports_are_predicted_and_drawn_ones_are_not() -> None:
    """Claim C14, without cross traffic."""
    sequential, drawn, plain = _nat("symmetric-sequential-2"), _nat("symmetric-random"), _nat("port-restricted")
    assert oracle.prediction(sequential, plain).odds == 1.0
    assert oracle.prediction(sequential, sequential).works
    assert not oracle.prediction(drawn, plain).works


@pytest.mark.parametrize(
    ("opened", "tried", "published"),
    [(256, 174, 0.50), (256, 1024, 0.98)],
)
def test_the_odds_of_a_spray_are_the_published_ones(opened: int, tried: int, published: float) -> None:
    """One hard side with 256 ports: 174 probes for a half, 1,024 for 98 %; their range is a little wider."""
    answer = oracle.spray(_nat("symmetric-random"), _nat("port-restricted"), opened=opened, tried=tried)
    assert answer.odds == pytest.approx(published, abs=0.01)
    assert answer.first == "a"


def test_a_narrow_band_makes_a_spray_cheap() -> None:
    """Eight ports of 2,048 and 1,024 tries."""
    narrow, wide = (oracle.spray(_nat(name), None, opened=8) for name in ("carrier-grade-band", "symmetric-random"))
    assert (narrow.odds or 0) > 0.97
    assert 0 < (wide.odds or 0) < 0.2


def test_a_pool_of_addresses_is_so_much_more_to_draw_from() -> None:
    """Of 1,024 open ports a quarter is at the address that is tried: 98 %, and not all but certain."""
    pool, single = (personas.load(name).behavior for name in ("carrier-grade-pool", "symmetric-random"))
    assert oracle.endpoints(pool) == 4 * oracle.endpoints(single) == 4 * (65_536 - 1024)
    assert oracle.spray(pool, None).odds == pytest.approx(0.983, abs=0.001)
    assert (oracle.spray(single, None).odds or 0) > 0.999


def test_a_spray_has_as_many_tries_as_the_table_holds() -> None:
    """A full table that refuses keeps the session with the rendezvous; one that evicts drops it."""
    evicts = personas.load("tiny-table").behavior
    refuses = replace(evicts, when_full=WhenFull.REFUSE)
    assert [oracle.room(nat) for nat in (evicts, refuses)] == [8, 7]
    band = _nat("carrier-grade-band")
    odds = [oracle.spray(band, nat).odds for nat in (evicts, refuses)]
    assert odds == pytest.approx([1 - 0.5**8, 1 - 0.5**7])
    assert not oracle.spray(_nat("symmetric-random"), evicts).works


def test_a_spray_helps_nobody_whose_syns_cannot_cross() -> None:
    """Neither where no port is drawn nor where the NAT that draws poisons what crosses."""
    assert not oracle.spray(_nat("crossing-dropper"), _nat("syn-ack-blocker")).works
    poisons = replace(personas.load("symmetric-random").behavior, crossing_syn=CrossingSyn.POISONS)
    assert oracle.spray(poisons, _nat("port-restricted")).odds == 0.0


def test_a_spray_needs_one_side_that_can_be_aimed_at() -> None:
    """Both drawn: a hit must name both."""
    assert oracle.spray(_nat("symmetric-random"), _nat("symmetric-random")).odds == 0.0
    assert oracle.spray(_nat("full-cone"), _nat("port-restricted")).odds == 1.0


def test_reversal_needs_a_side_that_is_open() -> None:
    """Claim C7: no NAT, or one that lets everybody in; poking helps where the filter goes by address."""
    assert oracle.reversal(_nat("full-cone"), _nat("symmetric-random"), listens="a").works
    assert oracle.reversal(None, _nat("symmetric-random"), listens="a").works
    assert not oracle.reversal(_nat("address-restricted"), _nat("symmetric-random"), listens="a").works
    assert oracle.poked_reversal(_nat("address-restricted"), _nat("symmetric-random"), listens="a").works
    assert not oracle.poked_reversal(_nat("address-restricted"), _nat("carrier-grade-pool"), listens="a").works
    assert not oracle.poked_reversal(_nat("port-restricted"), _nat("symmetric-random"), listens="a").works


@pytest.mark.parametrize(
    ("a", "b", "strategy"),
    [
        ("none", "symmetric-random", Strategy.REVERSAL),
        ("port-restricted", "port-restricted", Strategy.SIMULTANEOUS),
        ("crossing-blocker", "port-restricted", Strategy.ORDERED),
        ("address-restricted", "symmetric-random", Strategy.POKED_REVERSAL),
        ("symmetric-sequential", "port-restricted", Strategy.PREDICTION),
        ("symmetric-random", "port-restricted", Strategy.SPRAY),
        ("symmetric-random", "symmetric-random", Strategy.RELAY),
    ],
)
def test_the_simplest_way_that_works(a: str, b: str, strategy: Strategy) -> None:
    """From a plain connection to the relay that is always left."""
    assert oracle.best(_nat(a), _nat(b), one_way_ns=PATH).strategy is strategy


def test_a_nat_that_resets_and_lets_no_syn_cross_wants_a_syn_that_dies() -> None:
    """Its side cannot go last, for its answer would end the other, nor first, nor at the same time."""
    nat = Behavior(crossing_syn=CrossingSyn.POISONS, unsolicited=UnsolicitedAnswer.RST)
    answer = oracle.best(nat, Behavior(), one_way_ns=PATH)
    assert (answer.strategy, answer.first) == (Strategy.LOW_TTL, "b")


def test_every_answer_says_why() -> None:
    """In one sentence, for every pair and every strategy."""
    for a in personas.names():
        for answer in oracle.ways(_nat(a), _nat("rst-sender")):
            assert answer.why
            assert answer.odds is None or 0 <= answer.odds <= 1


names = st.sampled_from(["none", *personas.names()])
offsets = st.integers(-3 * OWD, 3 * OWD).filter(lambda offset: abs(offset) != OWD)


@given(names, names, offsets, st.sampled_from(["", "a", "b"]))
def test_it_does_not_matter_who_is_called_a(a: str, b: str, offset: int, low_ttl: str) -> None:
    """The mirror image has the same answer."""
    mirrored = {"": "", "a": "b", "b": "a"}[low_ttl]
    if offset == 0:
        return
    assert _opens(a, b, offset, low_ttl=low_ttl) == _opens(b, a, -offset, low_ttl=mirrored)


@given(names, offsets)
def test_a_more_open_filter_never_hurts_within_the_delay(name: str, offset: int) -> None:
    """Outside it does: a SYN that comes through to a host that is not open yet is answered by RST."""
    nat = _nat(name)
    if nat is None or abs(offset) >= OWD:
        return
    table = {"filtering": Filtering.ENDPOINT_INDEPENDENT, "ports": Ports()} if nat.port_is_kept else {}
    opened = Behavior(**{field: getattr(nat, field) for field in nat.__slots__} | table)
    plain = _nat("port-restricted")
    closed_works = oracle.simultaneous(nat, plain, offset_ns=offset, one_way_ns=PATH).works
    assert not closed_works or oracle.simultaneous(opened, plain, offset_ns=offset, one_way_ns=PATH).works
