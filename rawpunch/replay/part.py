"""One side of a script on its way to the process that plays it, as a JSON document in a file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rawpunch.errors import Malformed, Unreadable
from rawpunch.replay.player import PATIENCE_NS, Player
from rawpunch.replay.script import Line, Track
from rawpunch.wire.codec import decode, encode
from rawpunch.wire.endpoint import Endpoint, Flow
from rawpunch.wire.segment import IcmpError, Packet, Segment

FORMAT: Final = "rawpunch.replay-part/1"


@dataclass(frozen=True, slots=True)
class Part:
    """What one side is to play, and how."""

    track: Track
    speed: float = 1.0
    patience_ns: int = PATIENCE_NS

    def player(self, *, local: Endpoint, remote: Endpoint, iss: int | None = None) -> Player:
        """The machine that plays it; see `Player`."""
        return Player(self.track, local=local, remote=remote, iss=iss, speed=self.speed, patience_ns=self.patience_ns)

    def write(self, path: Path) -> None:
        """Write it to a file.

        Raises:
            Malformed: an option list is too long to be sent.
        """
        track = self.track
        document = {
            "format": FORMAT,
            "side": track.side,
            "local": str(track.local),
            "remote": str(track.remote),
            "certain": track.certain,
            "speed": self.speed,
            "patience_ns": self.patience_ns,
            "lines": [
                [line.at_ns, line.sent, line.number, line.waits_for, line.replies, _to_document(line.packet)]
                for line in track.lines
            ],
        }
        path.write_text(json.dumps(document), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Part:
        """The part in a file.

        Raises:
            Unreadable: it is not one.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise Unreadable(f"{path} is no part of a replay", why=f"its format is {document['format']!r}")
            track = Track(
                document["side"],
                Endpoint.parse(document["local"]),
                Endpoint.parse(document["remote"]),
                tuple(
                    Line(at_ns, sent, _from_document(packet), number, waits_for, replies)
                    for at_ns, sent, number, waits_for, replies, packet in document["lines"]
                ),
                document["certain"],
            )
            return cls(track, document["speed"], document["patience_ns"])
        except (OSError, ValueError, KeyError, TypeError, Malformed) as error:
            raise Unreadable(f"{path} is no part of a replay", why=f"{type(error).__name__}: {error}") from error


def _to_document(packet: Packet) -> Any:
    if isinstance(packet, Segment):
        return encode(replace(packet, payload=packet.payload.ljust(packet.payload_length, b"\0"))).hex()
    quoted = packet.quoted
    ends = [str(quoted.source), str(quoted.destination)]
    return [packet.source, packet.destination, packet.type, packet.code, *ends, packet.quoted_seq, packet.ttl]


def _from_document(document: Any) -> Packet:
    if isinstance(document, str):
        return decode(bytes.fromhex(document))
    source, destination, kind, code, about, peer, seq, ttl = document
    return IcmpError(source, destination, kind, code, Flow(Endpoint.parse(about), Endpoint.parse(peer)), seq, ttl)
