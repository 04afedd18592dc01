"""What one end of a connection said, in numbers that two connections can be compared by: counted from the initial ones.

    SYN 0, SYN-ACK 0 1, ACK 1 1 len 5

Each word is a segment that the end sent: its kind, its sequence number from the end's own initial one, with an ACK its
acknowledgement number from the peer's, and the length of its payload, if any. A number near neither (the RST of RFC 9293,
section 3.10.7.1, has sequence number 0) is written after an equals sign, as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rawpunch.wire.segment import Segment
from rawpunch.wire.seq import MODULUS

_REACH: Final = 1 << 24
"""How far from its initial one a sequence number of an opening may lie."""


def said(segments: Iterable[tuple[bool, Segment]]) -> str:
    """What an end said.

    Args:
        segments: what was seen at the end, in order: whether the end sent it, and the segment.
    """
    conversation = list(segments)
    own, peer = (_initial(conversation, sent=sent) for sent in (True, False))
    return ", ".join(_word(segment, own, peer) for sent, segment in conversation if sent)


def _initial(conversation: list[tuple[bool, Segment]], *, sent: bool) -> int | None:
    return next((segment.seq for mine, segment in conversation if mine == sent and segment.syn and not segment.rst), None)


def _word(segment: Segment, own: int | None, peer: int | None) -> str:
    words = [segment.kind, _number(segment.seq, own)]
    if segment.has_ack:
        words.append(_number(segment.ack, peer))
    if segment.payload_length:
        words.append(f"len {segment.payload_length}")
    return " ".join(words)


def _number(number: int, initial: int | None) -> str:
    if initial is None:
        return f"={number}"
    distance = (number - initial + MODULUS // 2) % MODULUS - MODULUS // 2
    return str(distance) if abs(distance) < _REACH else f"={number}"
