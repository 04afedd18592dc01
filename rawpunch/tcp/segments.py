"""The segments that an endpoint sends, made from its control block. Nothing here changes the block."""

from __future__ import annotations

from typing import Final

from rawpunch.errors import BadParameter
from rawpunch.tcp.state import DEFAULT_MSS_IPV4, DEFAULT_MSS_IPV6, MAX_SHIFT, Block, Negotiated, Offer
from rawpunch.units import MS
from rawpunch.wire.options import Mss, Nop, Option, Sack, SackPermitted, Timestamps, WindowScale
from rawpunch.wire.segment import MAX_WINDOW, Flags, Segment
from rawpunch.wire.seq import MODULUS, add

_SPREAD: Final = 2_654_435_761  # Knuth's multiplicative hash: timestamps of connections with near ISNs lie far apart


def timestamp(block: Block, now: int) -> int:
    """TSval at an instant: milliseconds plus a constant of the connection (RFC 7323, section 5.4), derived from its ISS."""
    return (now // MS + block.iss * _SPREAD) % MODULUS


def agree(offer: Offer, syn: Segment) -> Negotiated:
    """What our offer and the peer's SYN or SYN-ACK agree on (RFC 7323, sections 2.2 and 3.2; RFC 2018, section 2)."""
    mss, scale = syn.option(Mss), syn.option(WindowScale)
    scaling = offer.window_scale is not None and scale is not None
    default = DEFAULT_MSS_IPV6 if syn.source.is_ipv6 else DEFAULT_MSS_IPV4
    return Negotiated(
        mss=mss.value if mss is not None and mss.value else default,
        send_shift=min(scale.shift, MAX_SHIFT) if scaling and scale is not None else None,
        receive_shift=offer.window_scale if scaling else None,
        sack=offer.sack and syn.option(SackPermitted) is not None,
        timestamps=offer.timestamps and syn.timestamps is not None,
    )


def syn(block: Block, now: int) -> Segment:
    """<SEQ=ISS><CTL=SYN> with all that we offer."""
    offer = block.offer
    stamps = Timestamps(timestamp(block, now), 0) if offer.timestamps else None
    options = _opening_options(offer.mss, offer.window_scale, stamps, sack=offer.sack)
    return _segment(block, Flags.SYN, block.iss, window=_opening_window(block), options=options)


def syn_ack(block: Block, now: int) -> Segment:
    """<SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>, the ISS of our SYN, with what the peer offered too (RFC 7323, section 2.2)."""
    agreed = _agreed(block)
    stamps = Timestamps(timestamp(block, now), block.ts_recent) if agreed.timestamps else None
    options = _opening_options(block.offer.mss, agreed.receive_shift, stamps, sack=agreed.sack)
    return _segment(block, Flags.SYN | Flags.ACK, block.iss, window=_opening_window(block), options=options)


def ack(block: Block, now: int, *, dsack: tuple[int, int] | None = None) -> Segment:
    """<SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>.

    Args:
        block: the control block.
        now: for its timestamp.
        dsack: left and right edge of what came twice (RFC 2883), reported where SACK was agreed.
    """
    options = _stamped(block, now)
    if dsack is not None and _agreed(block).sack:
        options = (*options, Nop(), Nop(), Sack((dsack,)))
    return _segment(block, Flags.ACK, block.snd_nxt, window=_window(block), options=options)


def fin(block: Block, now: int, seq: int) -> Segment:
    """<SEQ=seq><ACK=RCV.NXT><CTL=FIN,ACK>."""
    return _segment(block, Flags.FIN | Flags.ACK, seq, window=_window(block), options=_stamped(block, now))


def abort(block: Block, now: int) -> Segment:
    """<SEQ=SND.NXT><ACK=RCV.NXT><CTL=RST,ACK>: RFC 9293, section 3.10.5, has no ACK here; Linux does (tcp_send_active_reset)."""
    return _segment(block, Flags.RST | Flags.ACK, block.snd_nxt, window=0, options=_stamped(block, now))


def reset_for(segment: Segment) -> Segment:
    """The RST that answers a segment (RFC 9293, section 3.10.7.1): its ACK becomes our SEQ, or its end our ACK."""
    if segment.has_ack:
        return Segment(segment.destination, segment.source, Flags.RST, segment.ack, window=0)
    return Segment(segment.destination, segment.source, Flags.RST | Flags.ACK, 0, segment.end, window=0)


def unacknowledged(block: Block, now: int) -> list[Segment]:
    """What lies between SND.UNA and SND.NXT, to be sent again: our SYN (a SYN-ACK once the peer's was seen), our FIN, or both."""
    again: list[Segment] = []
    if block.snd_una == block.iss:
        again.append(syn(block, now) if block.irs is None else syn_ack(block, now))
    if block.fin_seq is not None and block.snd_una != add(block.fin_seq, 1):
        again.append(fin(block, now, block.fin_seq))
    return again


def _segment(block: Block, flags: Flags, seq: int, *, window: int, options: tuple[Option, ...]) -> Segment:
    if block.remote is None:
        raise BadParameter("the remote endpoint is not known yet", todo="give it to the handshake, or LISTEN")
    return Segment(
        block.local, block.remote, flags, seq, block.rcv_nxt if flags & Flags.ACK else 0, window=window, options=options
    )


def _agreed(block: Block) -> Negotiated:
    return block.negotiated or Negotiated(DEFAULT_MSS_IPV4, None, None, sack=False, timestamps=False)


def _opening_window(block: Block) -> int:
    return min(block.habits.window, MAX_WINDOW)  # never scaled in a SYN: RFC 7323, section 2.2


def _window(block: Block) -> int:
    return min(block.rcv_wnd >> (_agreed(block).receive_shift or 0), MAX_WINDOW)


def _stamped(block: Block, now: int) -> tuple[Option, ...]:
    if not _agreed(block).timestamps:
        return ()
    return Nop(), Nop(), Timestamps(timestamp(block, now), block.ts_recent)


def _opening_options(mss: int, shift: int | None, stamps: Timestamps | None, *, sack: bool) -> tuple[Option, ...]:
    """MSS, SACK permitted, timestamps, window scale, padded as Linux does (tcp_options_write)."""
    options: list[Option] = [Mss(mss)]
    if stamps is not None:
        options += [SackPermitted(), stamps] if sack else [Nop(), Nop(), stamps]
    elif sack:
        options += [Nop(), Nop(), SackPermitted()]
    if shift is not None:
        options += [Nop(), WindowScale(shift)]
    return tuple(options)
