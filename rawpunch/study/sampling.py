"""Samples of external ports: which SYNs are sent, the same in the lab and in the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rawpunch.live.sampling import Connection, options_of
from rawpunch.rng import stream
from rawpunch.scene import OBSERVERS, Scene
from rawpunch.study.aiming import Question
from rawpunch.study.experiment import Sources
from rawpunch.study.planned import Planned
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.options import encode_options

if TYPE_CHECKING:
    import pandas as pd

SILENT: Final = range(10_000, 60_000)
"""Observers' ports that samples go to, where nothing answers."""

_OBSERVERS: Final = tuple(address for addresses in OBSERVERS.values() for address in addresses)
_PORTS: Final = range(20_000, 60_000)
_NUMBER: Final = slice(8, 12)
"""Where the options of a sample's SYN have its number."""
_LIKE_OURS: Final = encode_options(options_of(0))
_FOREIGN_HOST: Final = 3
"""The host inside that makes the cross traffic: 10.1.0.3."""


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """One sample that is to be taken or was."""

    planned: Planned
    connections: tuple[Connection, ...]
    """In the order in which they go out, foreign ones among them."""
    interval_ns: int
    began_ns: int = 0


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a part left to be looked at."""

    samples: list[PlannedSample]
    capture: Path
    dropped: int
    """Packets of this part that the recorder lost."""


def silence_ruleset() -> str:
    """The nft script of an observer that answers no sample, though its tap sees all."""
    return f"""table ip silence {{}}
delete table ip silence
table ip silence {{
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    tcp dport {SILENT.start}-{SILENT.stop - 1} drop
  }}
}}
"""


def sample_of(planned: Planned, scene: Scene, seed: int, made: int) -> PlannedSample:
    """A sample's SYNs.

    Args:
        planned: the sample.
        scene: the world.
        seed: source of all chance.
        made: SYNs of earlier samples through the same NAT: no endpoint of theirs is used again before all have been.

    Raises:
        BadParameter: nothing is to be sampled.
    """
    sampling = planned.sampling
    assert sampling is not None  # noqa: S101  who plans samples says which
    dice = stream(seed, "sample", planned.name)
    count = sampling.connections
    same = sampling.sources is Sources.SAME
    endpoints = count if same else sampling.destinations
    remotes = [
        Endpoint(_OBSERVERS[place % len(_OBSERVERS)], SILENT[(made + place // len(_OBSERVERS)) % len(SILENT)])
        for place in range(endpoints)
    ]
    first = _PORTS[made % len(_PORTS)]
    match sampling.sources:
        case Sources.SAME:
            ports = [first] * count
        case Sources.RANDOM:
            ports = dice.sample(_PORTS, count)
        case Sources.CONSECUTIVE:
            ports = [_PORTS[(made + place) % len(_PORTS)] for place in range(count)]
    mine = scene.host_address("a")
    other = f"{mine.rpartition('.')[0]}.{_FOREIGN_HOST}"
    ends: list[tuple[Endpoint, Endpoint]] = []
    for place, port in enumerate(ports):
        ends.append((Endpoint(mine, port), remotes[place % len(remotes)]))
        crossing = dice.randrange(2 * sampling.foreign + 1)
        ends += [(Endpoint(other, _PORTS[dice.randrange(len(_PORTS))]), remotes[0]) for _ in range(crossing)]
    connections = tuple(Connection(made + place, *pair) for place, pair in enumerate(ends, 1))
    return PlannedSample(planned, connections, sampling.interval_ns)


def connection_of(number: int, question: Question) -> Connection:
    """The SYN to a silent port of an observer that asks a question."""
    return Connection(number, question.local, Endpoint(_OBSERVERS[question.place], SILENT[question.local.port % len(SILENT)]))


def request(connections: Sequence[Connection], interval_ns: int = 0) -> dict[str, Any]:
    """What `live.sampling.serve` is asked for."""
    return {"sample": [(one.number, str(one.source), str(one.remote)) for one in connections], "interval_ns": interval_ns}


def first_seen(frame: pd.DataFrame, vantage: str, direction: str) -> dict[int, tuple[int, Endpoint]]:
    """Number of a sample's SYN -> when it was first seen at a device, and where it came from."""
    there = frame[(frame["interface"] == vantage) & (frame["direction"] == direction) & (frame["kind"] == "SYN")]
    found: dict[int, tuple[int, Endpoint]] = {}
    for row in there.sort_values("time_ns", kind="stable").to_dict("records"):
        options = bytes(row["options"] or b"")
        if len(options) == len(_LIKE_OURS) and options[: _NUMBER.start] == _LIKE_OURS[: _NUMBER.start]:
            number = int.from_bytes(options[_NUMBER], "big")
            found.setdefault(number, (int(row["time_ns"]), Endpoint(row["source_address"], int(row["source_port"]))))
    return found
