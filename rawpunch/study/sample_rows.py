"""From a part of samples and its capture to rows: one attempt for each sample, one mapping for each SYN that came out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rawpunch.capture.columns import read_capture
from rawpunch.record.rows import AttemptRow, MappingRow
from rawpunch.record.words import EndKind, Outcome, Pattern
from rawpunch.study.measure import Rows
from rawpunch.study.sampling import PlannedSample, Sampled, first_seen
from rawpunch.wire.endpoint import Endpoint

if TYPE_CHECKING:
    import pandas as pd


def rows_of_samples(sampled: Sampled, *, driver: str, capture_name: str) -> Rows:
    """All rows of a part of samples: no segments, for the capture has them, but every mapping.

    Raises:
        Unreadable: the capture cannot be read.
    """
    frame = read_capture(sampled.capture)
    sent, left = first_seen(frame, "natA:in", "in"), first_seen(frame, "natA:out", "out")
    came = frame[(frame["interface"] == "hostA:eth0") & (frame["direction"] == "in")]
    rows = Rows([], [], [], [])
    for sample in sampled.samples:
        mappings = list(_mappings(sample, left))
        rows.mappings.extend(mappings)
        rows.attempts.append(_attempt(sample, sent, mappings, came, driver, capture_name))
    return rows


def _mappings(sample: PlannedSample, left: dict[int, tuple[int, Endpoint]]) -> Iterator[MappingRow]:
    for connection in sample.connections:
        if connection.number in left:
            time_ns, external = left[connection.number]
            yield MappingRow(
                attempt=sample.planned.name,
                nat="natA",
                internal=str(connection.source),
                external=str(external),
                remote=str(connection.remote),
                time_ns=time_ns,
            )


def _attempt(
    sample: PlannedSample,
    sent: dict[int, tuple[int, Endpoint]],
    mappings: list[MappingRow],
    came: pd.DataFrame,
    driver: str,
    capture_name: str,
) -> AttemptRow:
    planned = sample.planned
    first = sample.connections[0]
    mine = [one for one in sample.connections if one.source.address == first.source.address]
    out = [sent[one.number][0] for one in mine if one.number in sent]
    answers = came[came["destination_port"].isin({one.source.port for one in mine}) & (came["time_ns"] >= sample.began_ns)]
    kinds = answers["kind"].astype(str)
    rst, icmp = int(kinds.str.startswith("RST").sum()), int(kinds.str.startswith("ICMP").sum())
    return AttemptRow(
        attempt=planned.name,
        cell=planned.cell_name,
        repeat=planned.repeat,
        driver=driver,
        end_a=EndKind.SAMPLER,
        end_b=EndKind.SILENT,
        outcome=Outcome.SAMPLED,
        pattern=Pattern.REFUSED if rst else Pattern.ICMP_ENDED if icmp else Pattern.UNANSWERED,
        local_a=str(first.source),
        mapped_a=next((row.external for row in mappings), None),
        remote_a=str(first.remote),
        planned_a_ns=sample.began_ns,
        sent_a_ns=out[0] if out else None,
        syn_a=len(out),
        rst=rst,
        icmp=icmp,
        disturbed=len(out) < len(mine),
        capture=capture_name,
    )
