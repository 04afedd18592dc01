"""What ends of one kind do differently from those of another: packets, octets, times, options, and which packet differs first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.statistics import difference, holm, wilson
from rawpunch.analysis.tables import keep
from rawpunch.errors import BadParameter

if TYPE_CHECKING:
    import pandas as pd

_HOSTS: Final = ("hostA:eth0", "hostB:eth0")
_HEADERS: Final = 40
"""Octets of an IPv4 and a TCP header without options."""
_CLOSING: Final = ("RST", "RST-ACK")


def effort(attempts: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    """What each undisturbed attempt took, one row each, with the attempt's own columns.

    New columns: ``packets`` and ``octets`` that both hosts sent until the handshake was over (IP and TCP headers with options and
    text; a closing RST is not counted), ``retransmissions`` of SYNs, ``options`` (those of the SYN-ACKs, or of the SYNs without
    one), ``connect_ns`` (the later end's).

    Args:
        attempts: the attempts table.
        segments: the segments table.
    """
    kept = keep(attempts).attempts
    sent = segments[segments["vantage"].isin(_HOSTS) & (segments["direction"] == "out") & ~segments["kind"].isin(_CLOSING)]
    length = sent["options"].map(_options_length, na_action="ignore").fillna(0) + sent["payload_length"].fillna(0) + _HEADERS
    by_attempt = sent.assign(octets=length.astype(int)).groupby("attempt", observed=True)
    counts = by_attempt.agg(packets=("kind", "size"), octets=("octets", "sum"))
    opening = sent[sent["kind"].isin(["SYN", "SYN-ACK"])].sort_values(["kind", "time_ns"])  # SYN-ACKs last
    options = opening["options"].map(_names).groupby(opening["attempt"], observed=True).last().rename("options")
    times = kept[["connect_a_ns", "connect_b_ns"]].astype("Float64").max(axis=1, skipna=False)
    return (
        kept.assign(
            connect_ns=times,
            retransmissions=kept["syn_retransmissions_a"].fillna(0) + kept["syn_retransmissions_b"].fillna(0),
            opened=kept["outcome"] == "established",
        )
        .join(counts, on="attempt")
        .join(options, on="attempt")
    )


def compared(taken: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Medians of what attempts took, by factors.

    Args:
        taken: see `effort`.
        by: factors.
    """
    return taken.groupby(list(by), observed=True).agg(
        n=("opened", "size"),
        opened=("opened", "sum"),
        packets=("packets", "median"),
        octets=("octets", "median"),
        retransmissions=("retransmissions", "mean"),
        rst=("rst", "mean"),
        connect_ms=("connect_ns", lambda times: times.astype("Float64").median() / 1e6),
        options=("options", lambda names: ", ".join(sorted(set(names.dropna())))),
    )


def success_differences(taken: pd.DataFrame, cells: Sequence[str], *, factor: str, one: str, other: str) -> pd.DataFrame:
    """Success of one kind of ends minus that of another, cell by cell: Newcombe's interval, and Fisher's test with Holm over all.

    Args:
        taken: see `effort`.
        cells: factors that make a cell.
        factor: what tells the two kinds apart.
        one: a level of it.
        other: another one.

    Raises:
        BadParameter: no cell has attempts of both.
    """
    import numpy as np  # noqa: PLC0415  as in `statistics`
    import pandas as pd  # noqa: PLC0415  nearly a second
    from scipy.stats import fisher_exact  # noqa: PLC0415  as above

    rows, tests = [], []
    for levels, group in taken.groupby(list(cells), observed=True):
        two = [group[group[factor] == level]["opened"] for level in (one, other)]
        if not (len(two[0]) and len(two[1])):
            continue
        shares = [wilson(int(opened.sum()), len(opened)) for opened in two]
        found = difference(shares[0], shares[1])
        tests.append(float(fisher_exact(np.array([[share.successes, share.n - share.successes] for share in shares])).pvalue))
        rows.append((*levels, shares[0].n, shares[1].n, found.value, found.low, found.high))
    if not rows:
        raise BadParameter("there is nothing to compare", why=f"no cell has attempts of {one} and of {other}")
    table = pd.DataFrame(rows, columns=[*cells, f"n_{one}", f"n_{other}", "difference", "low", "high"])
    return table.assign(p_holm=[test.p for test in holm(tests)])


def first_differences(
    taken: pd.DataFrame, segments: pd.DataFrame, cells: Sequence[str], *, factor: str, one: str, other: str
) -> pd.DataFrame:
    """For each cell the first packet in which a typical attempt of one kind differs from one of the other.

    Typical is the most frequent sequence of packets at both hosts. Columns: the cell, ``place`` (the packet's place in the
    sequence, from 1), and what each kind has there; cells without a difference are left out.

    Args:
        taken: see `effort`.
        segments: the segments table.
        cells: factors that make a cell.
        factor: what tells the two kinds apart.
        one: a level of it.
        other: another one.
    """
    import pandas as pd  # noqa: PLC0415  as above

    stories = _stories(segments)
    rows = []
    for levels, group in taken.groupby(list(cells), observed=True):
        typical = []
        for level in (one, other):
            told = stories.reindex(group.loc[group[factor] == level, "attempt"]).dropna()
            typical.append(tuple(told.mode().iloc[0]) if len(told) else ())
        if not (typical[0] and typical[1]):
            continue
        longest = max(map(len, typical))
        padded = [(*story, *["nothing more"] * (longest - len(story))) for story in typical]
        place = next((at for at in range(longest) if padded[0][at] != padded[1][at]), None)
        if place is not None:
            rows.append((*levels, place + 1, padded[0][place], padded[1][place]))
    return pd.DataFrame(rows, columns=[*cells, "place", one, other])


def _stories(segments: pd.DataFrame) -> pd.Series:
    """Attempt -> what each host sent, A's packets before B's: as (sender, kind, options) words, closing RSTs left out."""
    sent = segments[segments["vantage"].isin(_HOSTS) & (segments["direction"] == "out") & ~segments["kind"].isin(_CLOSING)]
    sent = sent.sort_values(["attempt", "vantage", "time_ns"])
    words = sent["vantage"].str[4] + " " + sent["kind"].astype(str) + " <" + sent["options"].map(_names).astype(str) + ">"
    return words.groupby(sent["attempt"], observed=True).agg(tuple)


def _names(options: object) -> str:
    """The options of a segment by name and by the values that do not change from one attempt to the next."""
    if not isinstance(options, str):
        return ""
    return ",".join(part.partition(" ")[0] if part.startswith(("ts ", "sack ")) else part for part in options.split(","))


def _options_length(options: str) -> int:
    """Octets of a segment's options, from their notation, padded to words."""
    from rawpunch.wire.notation import parse_options  # noqa: PLC0415  only this needs it
    from rawpunch.wire.options import encode_options  # noqa: PLC0415  as above

    return -(-len(encode_options(parse_options(options))) // 4) * 4
