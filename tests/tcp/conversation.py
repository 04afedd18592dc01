"""Conversations with one machine, written in the toolkit's notation and read like a packetdrill script.

    in SYN-SENT                       begin in a state, reached the ordinary way (its output is not looked at)
    OPEN, LISTEN, CLOSE, ABORT        the user's calls
    B > A  SYN-ACK seq 3000 ack 1001  comes in
    A > B  ACK seq 1001 ack 3001      must go out, next and exactly
    ICMP 3/1 seq 1000                 an ICMP error about a segment of ours comes in
    @ 1s                              the driver wakes the machine at that instant
    deadline 1s  |  deadline never    what the machine's deadline must be
    state ESTABLISHED                 what its state must be
    ends established                  what the machine must have told its user, in order
    delivers 5                        how much text it must have handed out since the last stimulus

A is 10.0.0.1:4000 with ISS 1000, B is 10.0.0.2:5000 with ISS 3000. Nothing may go out that the script does not say. Everything
after ``#`` is a remark.
"""

from __future__ import annotations

from rawpunch.machine import Abort, Arrived, Close, Concluded, Delivered, Effect, Listen, Open, Send, Stimulus, Woke
from rawpunch.tcp import RFC9293, Handshake, Offer, Profile
from rawpunch.units import parse_duration_ns
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.notation import format_segment, parse_segment
from rawpunch.wire.segment import IcmpError, Packet

A = Endpoint("10.0.0.1", 4000)
B = Endpoint("10.0.0.2", 5000)
NAMES = {"A": A.address, "B": B.address}
ADDRESSES = {address: name for name, address in NAMES.items()}
ISS_A, ISS_B = 1000, 3000
PLAIN = Offer(mss=1460, window_scale=None, sack=False, timestamps=False)

_CALLS: dict[str, Stimulus] = {"OPEN": Open(), "LISTEN": Listen(), "CLOSE": Close(), "ABORT": Abort()}
_OPENED = "OPEN | B > A  SYN seq 3000 <mss 1460>"
_ESTABLISHED = f"{_OPENED} | B > A  ACK seq 3001 ack 1001"
_CLOSED = f"{_ESTABLISHED} | CLOSE"
WAYS: dict[str, str] = {
    "CLOSED": "",
    "LISTEN": "LISTEN",
    "SYN-SENT": "OPEN",
    "SYN-RECEIVED": _OPENED,
    "SYN-RECEIVED-FROM-LISTEN": "LISTEN | B > A  SYN seq 3000 <mss 1460>",
    "ESTABLISHED": _ESTABLISHED,
    "FIN-WAIT-1": _CLOSED,
    "FIN-WAIT-2": f"{_CLOSED} | B > A  ACK seq 3001 ack 1002",
    "CLOSE-WAIT": f"{_ESTABLISHED} | B > A  FIN-ACK seq 3001 ack 1001",
    "LAST-ACK": f"{_ESTABLISHED} | B > A  FIN-ACK seq 3001 ack 1001 | CLOSE",
    "CLOSING": f"{_CLOSED} | B > A  FIN-ACK seq 3001 ack 1001",
    "TIME-WAIT": f"{_CLOSED} | B > A  ACK seq 3001 ack 1002 | B > A  FIN-ACK seq 3001 ack 1002",
}
"""State -> the ordinary way into it."""


def packet(text: str) -> Packet:
    """The segment or ICMP error in a line."""
    if text.startswith("ICMP"):
        _, what, _, number = text.split()
        kind, code = map(int, what.split("/"))
        return IcmpError("10.0.0.254", A.address, kind, code, Flow(A, B), int(number))
    return parse_segment(text.replace("A > B", "A:4000 > B:5000").replace("B > A", "B:5000 > A:4000"), NAMES)


class Conversation:
    """A machine and what it said; see the module for the language.

    Args:
        profile: the stack it plays.
        offer: what its SYN offers.
        give_up_ns: the user's patience.
        remote: None for a machine that listens to anybody.
    """

    def __init__(
        self,
        profile: Profile = RFC9293,
        *,
        offer: Offer = PLAIN,
        give_up_ns: int | None = None,
        remote: Endpoint | None = B,
    ) -> None:
        self.machine = Handshake(A, remote, iss=ISS_A, profile=profile, offer=offer, give_up_ns=give_up_ns)
        self.now = 0
        self.fired: list[str] = []
        self.said: list[str] = []
        self.endings: list[str] = []
        self.delivered = 0

    def play(self, script: str) -> Conversation:
        """Play a script.

        Raises:
            AssertionError: the machine did otherwise.
        """
        for raw in script.splitlines():
            line = " ".join(raw.partition("#")[0].split())
            if line:
                self._line(line)
        assert not self.said, f"not in the script: {self.said}"
        return self

    def step(self, stimulus: Stimulus) -> list[Effect]:
        """Give the machine one stimulus, now."""
        self.delivered = 0
        effects = self.machine.step(stimulus, now=self.now)
        self.fired += self.machine.fired
        for effect in effects:
            if isinstance(effect, Send):
                assert not isinstance(effect.packet, IcmpError)
                self.said.append(format_segment(effect.packet, ADDRESSES))
            elif isinstance(effect, Concluded):
                self.endings.append(effect.ending.value)
            elif isinstance(effect, Delivered):
                self.delivered += len(effect.payload)
        return effects

    def _line(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "A" or word.startswith("A:"):
            expected = packet(line)
            assert not isinstance(expected, IcmpError)
            assert self.said, f"silent, expected: {line}"
            assert self.said.pop(0) == format_segment(expected, ADDRESSES)
            return
        if word == "state":
            assert self.machine.state.value == rest
        elif word == "ends":
            assert self.endings == rest.split()
        elif word == "delivers":
            assert self.delivered == int(rest)
        elif word == "deadline":
            assert self.machine.deadline == (None if rest == "never" else parse_duration_ns(rest))
        else:
            assert not self.said, f"not in the script: {self.said} before {line}"
            self._stimulus(word, rest, line)

    def _stimulus(self, word: str, rest: str, line: str) -> None:
        if word == "in":
            for part in filter(None, map(str.strip, WAYS[rest].split("|"))):
                self._stimulus(part.split()[0], "", part)
            self.said.clear()
            self.endings.clear()
        elif word == "@":
            self.now = parse_duration_ns(rest)
            self.step(Woke())
        else:
            self.step(_CALLS.get(word) or Arrived(packet(line)))
