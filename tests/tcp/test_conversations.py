"""Whole conversations: how openings go, packet by packet, in each profile; options, windows, schedules."""

from __future__ import annotations

import pytest

from rawpunch.ending import Ending
from rawpunch.errors import BadParameter, UnknownName
from rawpunch.machine import Arrived, Changed, Concluded, Effect, Open, Send, Woke
from rawpunch.tcp import LINUX, LINUX_BEFORE_6_12, PROFILES, RFC9293, Handshake, Negotiated, Offer, Profile, State, profile
from rawpunch.units import MS, SECOND
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import Mss, Nop, Option, SackPermitted, Timestamps, WindowScale
from rawpunch.wire.segment import Flags, Segment
from tests.tcp.conversation import ISS_A, A, B, Conversation

SCALED = Offer(mss=1460, window_scale=7, sack=True, timestamps=False)
AT = 1_700_000_000 * SECOND


def machine(stack: Profile = LINUX, offer: Offer | None = None) -> Handshake:
    """End A, not yet opened."""
    return Handshake(A, B, iss=ISS_A, profile=stack, offer=offer)


def sent(effects: list[Effect]) -> list[Segment]:
    """The segments among the effects."""
    return [effect.packet for effect in effects if isinstance(effect, Send) and isinstance(effect.packet, Segment)]


def from_b(
    kind: Flags, seq: int, ack: int, window: int, offer: Offer | None, *, payload: bytes = b"", value: int = 70
) -> Segment:
    """A segment of B's: a SYN with an offer, or another with a timestamp."""
    if kind is not Flags.SYN:
        options: tuple[Option, ...] = (Nop(), Nop(), Timestamps(value, 1))
    elif offer is None:
        options = ()
    else:
        options = (Mss(offer.mss),)
        if offer.sack:
            options += (SackPermitted(),)
        if offer.timestamps:
            options += (Timestamps(value, 0),)
        if offer.window_scale is not None:
            options += (WindowScale(offer.window_scale),)
    return Segment(B, A, kind, seq, ack, window, options, payload)


def test_simultaneous_open_of_figure_7() -> None:
    """RFC 9293, section 3.5, figure 7, with its own numbers of both ends, seen from A."""
    Conversation().play("""
        OPEN
        A > B  SYN seq 1000 <mss 1460>
        state SYN-SENT
        B > A  SYN seq 3000 <mss 1460>
        A > B  SYN-ACK seq 1000 ack 3001 <mss 1460>
        state SYN-RECEIVED
        B > A  SYN-ACK seq 3000 ack 1001 <mss 1460>
        A > B  ACK seq 1001 ack 3001
        state ESTABLISHED
        ends established
        B > A  ACK seq 3001 ack 1001
        state ESTABLISHED
        """)


def test_crossing_syn_ack_in_linux_is_answered_with_a_dsack() -> None:
    """Linux 6.12 and later completes at the crossing SYN-ACK, and reports the peer's SYN as received twice."""
    Conversation(LINUX, offer=SCALED).play("""
        OPEN
        A > B  SYN seq 1000 win 64240 <mss 1460,nop,nop,sackOK,nop,wscale 7>
        B > A  SYN seq 3000 win 64240 <mss 1460,sackOK,nop,nop,nop,wscale 7>
        A > B  SYN-ACK seq 1000 ack 3001 win 64240 <mss 1460,nop,nop,sackOK,nop,wscale 7>
        B > A  SYN-ACK seq 3000 ack 1001 win 64240 <mss 1460,sackOK,nop,nop,nop,wscale 7>
        A > B  ACK seq 1001 ack 3001 win 502 <nop,nop,sack 3000:3001>
        state ESTABLISHED
        B > A  ACK seq 3001 ack 1001 win 502 <nop,nop,sack 1000:1001>
        state ESTABLISHED
        """)


def test_crossing_syn_ack_in_older_linux_is_only_challenged() -> None:
    """Before 6.12 the crossing SYN-ACK completes nothing; the peer's challenge ACK, which follows it, does."""
    Conversation(LINUX_BEFORE_6_12).play("""
        OPEN
        A > B  SYN seq 1000 win 64240 <mss 1460>
        B > A  SYN seq 3000 <mss 1460>
        A > B  SYN-ACK seq 1000 ack 3001 win 64240 <mss 1460>
        B > A  SYN-ACK seq 3000 ack 1001 <mss 1460>
        A > B  ACK seq 1001 ack 3001 win 64240
        state SYN-RECEIVED
        B > A  ACK seq 3001 ack 1001
        state ESTABLISHED
        """)


@pytest.mark.parametrize("name", PROFILES)
def test_half_simultaneous_open(name: str) -> None:
    """Our SYN was dropped on its way, the peer's arrives: we answer SYN-ACK with the same ISS, and its ACK completes."""
    win = "win 64240 " if name != "rfc9293" else ""
    Conversation(PROFILES[name]).play(f"""
        OPEN
        A > B  SYN seq 1000 {win}<mss 1460>
        B > A  SYN seq 3000 <mss 1460>
        A > B  SYN-ACK seq 1000 ack 3001 {win}<mss 1460>
        B > A  ACK seq 3001 ack 1001
        state ESTABLISHED
        ends established
        """)


def test_the_rst_of_a_nat_after_the_crossing_does_no_harm() -> None:
    """A NAT that answers the unsolicited SYN by RST uses SEQ 0: fatal in SYN-SENT, outside the window after the crossing."""
    crossed = Conversation().play("in SYN-RECEIVED\nB > A  RST-ACK seq 0 ack 1001\nstate SYN-RECEIVED\nends")
    assert "received-rst-outside" in crossed.fired
    Conversation().play("in SYN-SENT\nB > A  RST-ACK seq 0 ack 1001\nstate CLOSED\nends refused")


def test_self_connect() -> None:
    """One endpoint that talks to itself hears its own SYN, answers it, hears its own SYN-ACK: one connection."""
    me = Handshake(A, A, iss=5000, profile=RFC9293)
    wire = sent(me.step(Open(), now=0))
    seen: list[str] = []
    while wire:
        segment = wire.pop(0)
        seen.append(segment.kind)
        wire += sent(me.step(Arrived(segment), now=0))
    assert me.state is State.ESTABLISHED
    assert seen == ["SYN", "SYN-ACK", "ACK"]
    assert me.snd_nxt == me.rcv_nxt == 5001


@pytest.mark.parametrize(
    ("stack", "seconds", "end"),
    [
        (RFC9293, [1, 3, 7, 15, 31, 63, 127], 255),
        (LINUX, [1, 2, 3, 4, 5, 7, 11, 19, 35, 67], 131),
        (LINUX_BEFORE_6_12, [1, 3, 7, 15, 31, 63], 127),
    ],
)
def test_an_unanswered_syn_follows_the_schedule(stack: Profile, seconds: list[int], end: int) -> None:
    """SYNs go out again at the profile's instants, each the same but for its timestamp, and then it times out."""
    end_a = machine(stack)
    first = sent(end_a.step(Open(), now=AT))[0]
    seen: list[int] = []
    while (now := end_a.deadline) is not None:
        effects = end_a.step(Woke(), now=now)
        for segment in sent(effects):
            seen.append((now - AT) // SECOND)
            assert (segment.seq, segment.flags, segment.window) == (first.seq, first.flags, first.window)
        if Concluded(Ending.TIMED_OUT) in effects:
            assert now == AT + end * SECOND
    assert seen == seconds
    assert end_a.state is State.CLOSED


def test_a_crossing_keeps_the_syns_timer() -> None:
    """After a crossing the SYN-ACK is sent again when the SYN would have been: there is one timer."""
    Conversation(LINUX).play("""
        in SYN-SENT
        @ 600ms
        B > A  SYN seq 3000
        A > B  SYN-ACK seq 1000 ack 3001 win 64240 <mss 1460>
        @ 1s
        A > B  SYN-ACK seq 1000 ack 3001 win 64240 <mss 1460>
        deadline 2s
        """)


def test_the_users_patience_comes_before_the_schedule() -> None:
    """With `give_up_ns` the opening ends then, in whatever state it is, and not at all once it is established."""
    Conversation(give_up_ns=2 * SECOND).play("in SYN-RECEIVED\n@ 2s\nstate CLOSED\nends timed_out")
    Conversation(give_up_ns=2 * SECOND).play("in LISTEN\n@ 2s\nstate CLOSED\nends timed_out")
    Conversation(LINUX, give_up_ns=2 * SECOND).play("in SYN-RECEIVED-FROM-LISTEN\n@ 2s\nstate CLOSED\nends timed_out")
    Conversation(give_up_ns=2 * SECOND).play("in ESTABLISHED\ndeadline never\n@ 9s\nstate ESTABLISHED")


def test_a_late_driver_does_not_send_bursts() -> None:
    """Woken 2.5 s late, a machine sends one SYN, and the next one a whole gap later."""
    Conversation(LINUX).play("in SYN-SENT\n@ 3500ms\nA > B  SYN seq 1000 win 64240 <mss 1460>\ndeadline 4500ms")


@pytest.mark.parametrize("name", PROFILES)
def test_the_syn_made_ahead_of_time_is_the_one_sent(name: str) -> None:
    """`prepare_syn(at)` is what `step(Open(), now=at)` sends, and preparing changes nothing."""
    end_a = machine(PROFILES[name])
    prepared = end_a.prepare_syn(AT)
    assert end_a.state is State.CLOSED
    assert end_a.deadline is None
    assert sent(end_a.step(Open(), now=AT)) == [prepared]
    assert prepared.timestamps == Timestamps(end_a.timestamp(AT), 0)
    assert prepared != end_a.prepare_syn(AT + MS)


def test_what_was_negotiated_is_kept_for_a_handover() -> None:
    """MSS, window shifts, SACK and timestamps as both SYNs had them; the window is scaled behind the SYN, and not in it."""
    end_a = machine(LINUX)
    end_a.step(Open(), now=AT)
    end_a.step(Arrived(from_b(Flags.SYN, 3000, 0, 29_200, Offer(mss=1400, window_scale=9))), now=AT)
    assert end_a.negotiated == Negotiated(mss=1400, send_shift=9, receive_shift=7, sack=True, timestamps=True)
    assert (end_a.snd_wnd, end_a.rcv_wnd, end_a.irs, end_a.rcv_nxt, end_a.ts_recent) == (29_200, 64_256, 3000, 3001, 70)
    effects = end_a.step(Arrived(from_b(Flags.ACK, 3001, 1001, 100, None, value=71)), now=AT + 5 * MS)
    assert Concluded(Ending.ESTABLISHED) in effects
    assert (end_a.snd_wnd, end_a.snd_una, end_a.snd_nxt, end_a.ts_recent) == (100 << 9, 1001, 1001, 71)
    assert (end_a.local, end_a.remote) == (A, B)


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (Offer(), None, Negotiated(536, None, None, sack=False, timestamps=False)),
        (Offer(window_scale=None), Offer(mss=900), Negotiated(900, None, None, sack=True, timestamps=True)),
        (Offer(sack=False), Offer(window_scale=14), Negotiated(1460, 14, 7, sack=False, timestamps=True)),
        (Offer(timestamps=False), Offer(window_scale=0), Negotiated(1460, 0, 7, sack=True, timestamps=False)),
    ],
)
def test_only_what_both_offer_is_agreed(ours: Offer, theirs: Offer | None, agreed: Negotiated) -> None:
    """Options hold where both SYNs have them, and our SYN-ACK carries no others (RFC 7323, section 2.2)."""
    end_a = machine(RFC9293, ours)
    end_a.step(Open(), now=AT)
    (answer,) = sent(end_a.step(Arrived(from_b(Flags.SYN, 3000, 0, 65_535, theirs)), now=AT))
    assert end_a.negotiated == agreed
    assert (answer.option(WindowScale) is not None) == (agreed.receive_shift is not None)
    assert (answer.timestamps is not None) == agreed.timestamps
    assert (answer.option(SackPermitted) is not None) == agreed.sack


def test_a_peer_without_an_mss_option_takes_1220_over_ipv6() -> None:
    """RFC 9293, section 3.7.1: 536 is the default for IPv4, 1,220 for IPv6."""
    local, remote = Endpoint("2001:db8::1", 1), Endpoint("2001:db8::2", 2)
    end_a = Handshake(local, remote, iss=9, profile=RFC9293)
    end_a.step(Open(), now=AT)
    end_a.step(Arrived(Segment(remote, local, Flags.SYN, 5)), now=AT)
    assert end_a.negotiated is not None
    assert end_a.negotiated.mss == 1220


def test_timestamps_are_echoed_on_every_segment() -> None:
    """Once agreed, every segment carries our clock in ms and the peer's latest value (RFC 7323, section 3.2)."""
    end_a = machine(RFC9293)
    end_a.step(Open(), now=AT)
    (answer,) = sent(end_a.step(Arrived(from_b(Flags.SYN, 3000, 0, 65_535, Offer())), now=AT + 20 * MS))
    assert answer.timestamps == Timestamps(end_a.timestamp(AT) + 20, 70)
    end_a.step(Arrived(from_b(Flags.ACK, 3001, 1001, 500, None)), now=AT + 40 * MS)
    data = from_b(Flags.ACK, 3001, 1001, 500, None, payload=b"hello", value=90)
    (answer,) = sent(end_a.step(Arrived(data), now=AT + 60 * MS))
    assert answer.timestamps == Timestamps(end_a.timestamp(AT) + 60, 90)


def test_both_ends_close_in_the_middle_of_an_opening() -> None:
    """CLOSE in SYN-RECEIVED sends a FIN at once; SYN-ACK and FIN are both repeated until both are acknowledged."""
    Conversation().play("""
        in SYN-RECEIVED
        CLOSE
        A > B  FIN-ACK seq 1001 ack 3001
        state FIN-WAIT-1
        @ 1s
        A > B  SYN-ACK seq 1000 ack 3001 <mss 1460>
        A > B  FIN-ACK seq 1001 ack 3001
        B > A  ACK seq 3001 ack 1001
        state FIN-WAIT-1
        @ 3s
        A > B  FIN-ACK seq 1001 ack 3001
        B > A  ACK seq 3001 ack 1002
        state FIN-WAIT-2
        """)


def test_an_icmp_error_after_the_opening_is_soft_in_linux() -> None:
    """Port unreachable ends an opening in Linux, and no connection; by RFC 1122 it ends both."""
    Conversation(LINUX).play("in ESTABLISHED\nICMP 3/3 seq 1001\nstate ESTABLISHED")
    Conversation().play("in ESTABLISHED\nICMP 3/3 seq 1001\nstate CLOSED\nends unreachable")


def test_changes_name_rule_and_cause() -> None:
    """A transition says from where to where, by which row, and on what: a segment's kind, a call, a timer."""
    end_a = machine(RFC9293)
    assert Changed("CLOSED", "SYN-SENT", "open", "OPEN") in end_a.step(Open(), now=0)
    assert Changed("SYN-SENT", "SYN-RECEIVED", "sent-syn", "SYN") in end_a.step(
        Arrived(from_b(Flags.SYN, 3000, 0, 1, None)), now=0
    )
    late = end_a.step(Woke(), now=255 * SECOND)
    assert late == [Changed("SYN-RECEIVED", "CLOSED", "timed-out", "TIMER"), Concluded(Ending.TIMED_OUT)]


def test_a_closed_machine_can_open_again() -> None:
    """After a refusal OPEN starts afresh, with nothing left of the peer that refused."""
    Conversation().play("""
        in SYN-RECEIVED
        B > A  RST seq 3001
        OPEN
        A > B  SYN seq 1000 <mss 1460>
        B > A  SYN-ACK seq 70000 ack 1001
        A > B  ACK seq 1001 ack 70001
        ends reset established
        """)


def test_a_copy_is_independent() -> None:
    """What a copy does leaves the original where it was."""
    end_a = machine()
    end_a.step(Open(), now=0)
    other = end_a.copy()
    other.step(Arrived(from_b(Flags.SYN, 3000, 0, 1, None)), now=0)
    assert (end_a.state, other.state) == (State.SYN_SENT, State.SYN_RECEIVED)
    assert end_a.irs is None


def test_names_and_numbers_that_do_not_exist_are_refused() -> None:
    """An unknown profile, an ISS or offer that fits no field."""
    with pytest.raises(UnknownName, match="windows"):
        profile("windows")
    assert profile("linux") is LINUX
    for make in (
        lambda: Handshake(A, B, iss=2**32, profile=RFC9293),
        lambda: Offer(mss=0),
        lambda: Offer(window_scale=15),
    ):
        with pytest.raises(BadParameter):
            make()
