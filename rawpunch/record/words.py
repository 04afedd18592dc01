"""The closed lists of words that rows are written in. Each word has one sentence; the column dictionary quotes it."""

from __future__ import annotations

import enum
from typing import Self


class Word(enum.StrEnum):
    """A word with its sentence."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> Self:
        """Keep the sentence beside the value."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member


class Pattern(Word):
    """What happened on the wire, at one end or in one attempt."""

    THREE_WAY = "three_way", "One side sent a SYN, the other answered SYN-ACK, the first completed with an ACK."
    SIMULTANEOUS = (
        "simultaneous",
        "Both ends sent a SYN before they saw the other's and both answered with a SYN-ACK: the SYNs crossed.",
    )
    HALF_SIMULTANEOUS = (
        "half_simultaneous",
        "One end sent a SYN that never arrived, and answered the other's SYN with SYN-ACK; the other ran an ordinary handshake.",
    )
    SPLIT = (
        "split",
        "The side that got the SYN answered with a SYN of its own instead of a SYN-ACK (four- or five-way handshake).",
    )
    SELF_CONNECT = "self_connect", "One socket connected to itself: source and destination are the same endpoint."
    REFUSED = "refused", "A RST answered a SYN, and no SYN-ACK was seen before it."
    RESET_MIDWAY = "reset_midway", "A RST came after a SYN-ACK and before the handshake was complete."
    ICMP_ENDED = "icmp_ended", "An ICMP error was the last answer, and nothing completed after it."
    UNANSWERED = "unanswered", "SYNs were sent and nothing came back."
    TRUNCATED = "truncated", "The record begins or ends inside the handshake."


class Outcome(Word):
    """How an attempt ended, by its cause."""

    ESTABLISHED = "established", "Both ends reached ESTABLISHED."
    REFUSED = "refused", "A RST answered the SYN of the end that failed first."
    RESET = "reset", "A RST came after the end that failed first had answered the other's SYN."
    UNREACHABLE = "unreachable", "An ICMP error ended the end that failed first."
    TIMED_OUT = "timed_out", "No end got a deciding answer before it gave up."
    HALF_OPEN = "half_open", "One end reached ESTABLISHED and the other did not."
    SAMPLED = "sampled", "No connection was wanted: SYNs showed which external ports a NAT gives, and were left unanswered."
    NOT_MEASURED = (
        "not_measured",
        "An end could not even start (its port was taken, the lab broke); the cause column says why.",
    )


class Driver(Word):
    """Who wrote the row."""

    LAB = "lab", "Kernel hosts and NATs in network namespaces of this machine."
    SIM = "sim", "The machines of this toolkit in virtual time."
    LIVE = "live", "Raw or kernel sockets on a real path."
    REPLAY = "replay", "A capture played again."


class EndKind(Word):
    """What made an end of an attempt."""

    KERNEL = "kernel", "A kernel socket: bind, connect at an instant."
    RAW = "raw", "Crafted segments, the toolkit's handshake table deciding."
    HANDOVER = "handover", "Crafted segments until the connection is open, then a kernel socket that took it over."
    LISTENING = "listening", "A kernel socket that listens and accepts."
    REPLAY = "replay", "One side of a captured flow or of a script, played again."
    UDP = "udp", "A UDP socket that greets its peer until it is heard."
    PROBER = "prober", "Crafted segments that take the stack at the other end through a branch of an opening."
    DIALLING = "dialling", "Kernel sockets that dial from one bound port, again whenever they are refused or reset."
    UNBOUND = "unbound", "Kernel sockets without a port of their own, one after the other, until one is connected."
    PUNCHING = "punching", "A peer that meets the other one at a rendezvous server and punches, as `rawpunch punch` does."
    STACK = "stack", "A stack of the user's: a program that is told when to open a connection, and says how that ended."
    SAMPLER = "sampler", "Ready SYNs, one after the other, of which none is to be answered."
    SILENT = "silent", "Takes in what comes and answers nothing."
