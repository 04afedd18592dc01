"""What holds for any input: nothing that arrives raises, the block stays sound, and two machines over any link come to an end."""

from __future__ import annotations

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rawpunch.ending import Ending
from rawpunch.link import PPM, Link, Path
from rawpunch.machine import Abort, Arrived, Changed, Close, Concluded, Effect, Listen, Open, Send, Stimulus, Woke
from rawpunch.rng import stream
from rawpunch.tcp import PROFILES, Handshake, Profile, State
from rawpunch.tcp.state import MAX_SHIFT
from rawpunch.units import MS, SECOND
from rawpunch.wire.codec import encode
from rawpunch.wire.endpoint import Flow
from rawpunch.wire.options import Mss, Nop, Option, Sack, SackPermitted, Timestamps, Unknown, WindowScale
from rawpunch.wire.segment import Flags, IcmpError, Segment
from rawpunch.wire.seq import MODULUS, add, at_or_before
from tests.tcp.conversation import ISS_A, ISS_B, WAYS, A, B, Conversation
from tests.tcp.pair import World, agree, ends

profiles = st.sampled_from(list(PROFILES.values()))
near = st.one_of(
    st.integers(-3, 3).map(lambda by: add(ISS_A, by)),
    st.integers(-3, 3).map(lambda by: add(ISS_B, by)),
    st.integers(-3, 3).map(lambda by: add(ISS_B, 65_535 + by)),
    st.integers(0, MODULUS - 1),
)
options: st.SearchStrategy[tuple[Option, ...]] = st.lists(
    st.one_of(
        st.just(Nop()),
        st.builds(Mss, st.integers(0, 65_535)),
        st.builds(WindowScale, st.integers(0, 255)),
        st.just(SackPermitted()),
        st.builds(Timestamps, st.integers(0, MODULUS - 1), st.integers(0, MODULUS - 1)),
        st.builds(lambda edge: Sack(((edge, add(edge, 1)),)), near),
        st.builds(Unknown, st.integers(35, 255), st.binary(max_size=4)),
    ),
    max_size=3,
).map(tuple)
segments = st.builds(
    Segment,
    st.sampled_from([B, B, B, A]),
    st.just(A),
    st.integers(0, 0x1FF).map(Flags),
    near,
    near,
    st.integers(0, 65_535),
    options,
    st.binary(max_size=6),
)
errors = st.builds(
    lambda kind, code, flow, seq: IcmpError("10.0.0.254", A.address, kind, code, flow, seq),
    st.integers(0, 255),
    st.integers(0, 255),
    st.sampled_from([Flow(A, B), Flow(B, A)]),
    near,
)
stimuli: st.SearchStrategy[Stimulus] = st.one_of(
    st.builds(Arrived, segments),
    st.builds(Arrived, errors),
    st.just(Woke()),
    st.just(Close()),
    st.just(Abort()),
)
steps = st.lists(st.tuples(st.integers(0, 3 * SECOND), stimuli), max_size=25)


def check_sound(machine: Handshake) -> None:
    """SND.UNA =< SND.NXT, all numbers fit their fields, and timers run only where there is something to wait for."""
    block = machine.block
    for number in (block.snd_una, block.snd_nxt, block.rcv_nxt, block.iss, block.ts_recent):
        assert 0 <= number < MODULUS
    assert at_or_before(block.snd_una, block.snd_nxt)
    assert block.rcv_wnd >= 0
    assert 0 <= block.snd_wnd <= 65_535 << MAX_SHIFT
    if machine.state in {State.CLOSED, State.ESTABLISHED, State.FIN_WAIT_2, State.CLOSE_WAIT}:
        assert machine.deadline is None
    if machine.state in {State.SYN_SENT, State.SYN_RECEIVED, State.TIME_WAIT}:
        assert machine.deadline is not None


def check_effects(machine: Handshake, before: State, effects: list[Effect]) -> None:
    """What is sent can be encoded and is ours; changes chain from the old state to the new; an end is CLOSED or ESTABLISHED."""
    for effect in effects:
        if isinstance(effect, Send):
            assert isinstance(effect.packet, Segment)
            assert effect.packet.source == A
            encode(effect.packet)
        elif isinstance(effect, Changed):
            assert effect.before == before
            before = State(effect.after)
        elif isinstance(effect, Concluded):
            assert before is (State.ESTABLISHED if effect.ending is Ending.ESTABLISHED else State.CLOSED)
    assert machine.state is before


@given(profiles, st.sampled_from(list(WAYS)), steps)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_that_arrives_raises(stack: Profile, way: str, script: list[tuple[int, Stimulus]]) -> None:
    """From every state, any sequence of segments, ICMP errors, timers, CLOSEs and ABORTs is survived with a sound block."""
    conversation = Conversation(stack).play(f"in {way}")
    machine, now = conversation.machine, conversation.now
    for gap_ns, stimulus in script:
        now += gap_ns
        before = machine.state
        effects = machine.step(stimulus, now=now)
        check_effects(machine, before, effects)
        check_sound(machine)


@given(profiles, st.lists(st.builds(Arrived, segments), max_size=12))
def test_the_same_stimuli_give_the_same_effects(stack: Profile, script: list[Stimulus]) -> None:
    """A machine is a function of its stimuli: two of them agree in every effect."""
    one, other = (Handshake(A, B, iss=ISS_A, profile=stack) for _ in range(2))
    for now, stimulus in enumerate([Open(), *script]):
        assert one.step(stimulus, now=now) == other.step(stimulus, now=now)


@given(profiles, segments)
def test_the_closed_state_never_answers_a_rst(stack: Profile, segment: Segment) -> None:
    """CLOSED answers everything for it but a RST, and always by a RST; a RST never answers a RST in any opening state."""
    for begin in (None, Listen(), Open()):
        machine = Handshake(A, B, iss=ISS_A, profile=stack)
        if begin is not None:
            machine.step(begin, now=0)
        answers = [effect.packet for effect in machine.step(Arrived(segment), now=0) if isinstance(effect, Send)]
        if segment.rst or segment.source != B:
            assert answers == []
        elif begin is None:
            assert [answer.rst for answer in answers if isinstance(answer, Segment)] == [True]


paths = st.builds(
    Path,
    delay_ns=st.sampled_from([0, 5 * MS, 20 * MS, 2 * SECOND]),
    jitter_ns=st.sampled_from([0, 10 * MS, SECOND]),
    loss_ppm=st.sampled_from([0, 0, 100_000, 400_000, 900_000, PPM]),
    duplication_ppm=st.sampled_from([0, 300_000, PPM]),
    reordering_ppm=st.sampled_from([0, 300_000, PPM]),
    held_back_ns=st.sampled_from([1, 30 * MS, 3 * SECOND]),
)
TOTAL_LOSS = Path(loss_ppm=PPM)


@given(st.tuples(profiles, profiles), st.tuples(paths, paths), st.integers(0, 2**32), st.integers(0, 2500))
@settings(max_examples=200, deadline=None)
@example((PROFILES["linux"], PROFILES["rfc9293"]), (TOTAL_LOSS, TOTAL_LOSS), 0, 0)
@example((PROFILES["linux"], PROFILES["linux"]), (Path(), TOTAL_LOSS), 0, 0)
def test_two_machines_over_any_link_end(
    stacks: tuple[Profile, Profile], both: tuple[Path, Path], seed: int, offset_ms: int
) -> None:
    """Whatever is lost, doubled and overtaken, both openings conclude, and the wire falls silent."""
    world = World(ends(stacks), [Link(path=path, dice=stream(seed, number)) for number, path in enumerate(both)])
    world.run((0, 0, Open()), (offset_ms * MS, 1, Open()))
    assert world.steps < 2000, "still busy"
    assert all(world.endings), world.endings
    assert all(machine.deadline is None for machine in world.machines)
    assert {machine.state for machine in world.machines} <= {State.CLOSED, State.ESTABLISHED}


@given(st.tuples(profiles, profiles), st.integers(1, 200), st.integers(0, 199))
def test_inside_the_window_simultaneity_always_works(stacks: tuple[Profile, Profile], delay_ms: int, offset_ms: int) -> None:
    """Over clean links, starting less than one delay apart, the SYNs cross, and it is quiet three delays after the later."""
    offset_ns = min(offset_ms, delay_ms - 1) * MS
    world = World(ends(stacks), [Link(delay_ns=delay_ms * MS), Link(delay_ns=delay_ms * MS)])
    world.run((0, 0, Open()), (offset_ns, 1, Open()))
    assert world.endings == [[Ending.ESTABLISHED], [Ending.ESTABLISHED]]
    assert agree(world.machines)
    assert world.now <= offset_ns + 3 * delay_ms * MS


@given(st.tuples(profiles, profiles), st.integers(0, 5000), st.booleans())
def test_two_ends_close_cleanly(stacks: tuple[Profile, Profile], gap_ms: int, aborted: bool) -> None:
    """After an opening, two CLOSEs however far apart bring both ends to CLOSED; an ABORT resets the other end."""
    world = World(ends(stacks), [Link(delay_ns=20 * MS), Link(delay_ns=20 * MS)])
    end = (SECOND, 0, Abort() if aborted else Close())
    world.run((0, 0, Open()), (0, 1, Open()), end, (SECOND + gap_ms * MS, 1, Close()))
    assert [machine.state for machine in world.machines] == [State.CLOSED, State.CLOSED]
    assert world.endings[0] == [Ending.ESTABLISHED, Ending.CLOSED]
    assert world.endings[1] == [Ending.ESTABLISHED, Ending.RESET if aborted else Ending.CLOSED]
