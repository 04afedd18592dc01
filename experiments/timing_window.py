"""How late may the second SYN leave, on which path, and how exactly must the two be timed?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.edges import Edge, threshold_edge
from rawpunch.analysis.statistics import slope, wilson
from rawpunch.analysis.tables import keep
from rawpunch.analysis.timing import (
    WindowEdge,
    launch_errors,
    median_of,
    offsets_three_ways,
    shares_of_delays,
    window_edges,
    with_times,
)
from rawpunch.errors import BadParameter
from rawpunch.live.end import Scheduler
from rawpunch.scene import Leg, Nat, Scene, UnsolicitedAnswer
from rawpunch.study.experiment import Attempt, Cell, Factor, Level, Verdict, Word, judge
from rawpunch.study.peer_clock import PeerClock
from rawpunch.units import MS, SECOND, US

if TYPE_CHECKING:
    import pandas as pd

    from rawpunch.dataset.store import Dataset

QUESTION = "How late may the second SYN leave on which path, and how exactly must the two starts be timed?"
CLAIMS = ("C1", "C2", "C3", "C10", "C11", "C20")
FACTORS = {
    "path": Factor(
        ("direct", "silent", "resetting", "unequal", "lopsided", "deep", "askew"),
        "no NAT; NATs that drop or reset a SYN they do not expect; resetting ones with legs of 1:3, with half the delay back, "
        "with hosts one and a half delays behind their NATs, or one host a delay and the other half a delay",
        fixed=True,
    ),
    "ends": Factor(("kernel-kernel", "raw-raw"), "what makes end A and end B", fixed=True),
    "one_way_ns": Factor((1 * MS, 5 * MS, 20 * MS, 50 * MS), "one-way delay from A's NAT to B's, or from A to B without any"),
    "offset": Factor(
        (-1.1, -0.9, 0.0, 0.5, 0.9, 1.1, 3.0),
        "start of B after A, in windows: the one-way delay from NAT to NAT, and what the first one has farther to its own NAT",
    ),
    "scheduler": Factor(tuple(map(str, Scheduler)), "how the ends wait for their instants", fixed=True),
    "ahead_ns": Factor((0, 1 * MS, 15 * MS, 30 * MS), "how far B's own clock was ahead when it was set, ten minutes ago"),
    "drift_ppb": Factor((0, -20_000, -50_000), "how much faster than A's it has run since then"),
}
REPEATS = 2

SYNCHRONISED_NS = 600 * SECOND
NEAR_NS = 100 * US
"""Of the bar: the edge is to be that near to the one-way delay."""
EDGE_WIDTH_NS = 100 * US
"""An edge is known when its interval is no wider, to 50 us, and tells whether the edge is near."""
MOST = 60
"""Attempts at one edge."""
ENOUGH = 44
"""Attempts beyond the delay, all delays together: forty in a row are what puts an interval above nine in ten."""
CLOCKED = 40
"""Attempts with clocks apart, for the same reason."""
INSIDE_NS = (5 * MS, 20 * MS)
"""From which one-way delay on, and up to which, hosts are put far behind their NATs; host to host it is up to four times that."""
SLOPE_BAR = 0.01
"""What a delay adds to the window is known to a hundredth of it."""
_SERIES = ("path", "ends", "one_way_ns")
_SHARES: Final = (1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6)
"""Of an empty gap, where to try next. A round costs more than an attempt, so there are several."""
_STEPS_US: Final = (-120, -70, -40, -15, 15, 40, 70, 120)
"""And round an edge that is nearly known."""
_USUAL: Cell = {"scheduler": Scheduler.SPIN.value, "ahead_ns": 0, "drift_ppb": 0}


def sensible(cell: Cell) -> bool:
    """Other schedulers on one path, and clocks apart on one path and delay, both at kernel ends; raw ends where one may reset.

    Hosts far from their NATs only at some delays.
    """
    if cell["ends"] != "kernel-kernel" and cell["path"] not in {"direct", "resetting"}:
        return False
    if cell["path"] in {"deep", "askew"} and not INSIDE_NS[0] <= int(cell["one_way_ns"]) <= INSIDE_NS[1]:
        return False
    odd = [name for name, level in _USUAL.items() if cell[name] != level]
    if not odd:
        return True
    if len(odd) > 1 or cell["path"] != "resetting" or cell["ends"] != "kernel-kernel":
        return False
    if odd == ["scheduler"]:
        return abs(float(cell["offset"])) < 1
    return cell["offset"] == 0.0 and cell["one_way_ns"] == 20 * MS


def scene(cell: Cell) -> Scene:
    """Two equal NATs or none, the delay on two equal legs unless the path says otherwise."""
    path, one_way_ns = cell["path"], int(cell["one_way_ns"])
    nat = None if path == "direct" else Nat(unsolicited=UnsolicitedAnswer.DROP if path == "silent" else UnsolicitedAnswer.RST)
    quarter, half = one_way_ns // 4, one_way_ns // 2
    match path:
        case "unequal":
            near, far = Leg(up_ns=quarter, down_ns=quarter), Leg(up_ns=one_way_ns - quarter, down_ns=one_way_ns - quarter)
            return Scene(nat_a=nat, nat_b=nat, leg_a=near, leg_b=far)
        case "lopsided":
            back = half // 2
            return Scene(
                nat_a=nat, nat_b=nat, leg_a=Leg(up_ns=half, down_ns=back), leg_b=Leg(up_ns=back, down_ns=one_way_ns - half)
            )
        case "deep":
            return Scene.between(nat, nat, one_way_ns, inside_ns=(3 * half, 3 * half))
        case "askew":
            return Scene.between(nat, nat, one_way_ns, inside_ns=(one_way_ns, half))
    return Scene.between(nat, nat, one_way_ns)


def window_ns(world: Scene) -> tuple[int, int]:
    """The latest start of B after A, and of A after B, at which each one's SYN passes its own NAT before the other's comes there.

    A's SYN comes to B's NAT after A's way to its own NAT and the delay from there; B's passes it after B's way to it.
    """
    there_ns, back_ns = world.nat_to_nat_ns
    ahead_ns = world.inside_a.up_ns - world.inside_b.up_ns
    return there_ns + ahead_ns, back_ns - ahead_ns


def attempt(cell: Cell) -> Attempt:
    """Both start when their own clocks show the agreed instant, which is later for B by the offset."""
    end_a, end_b = str(cell["ends"]).split("-")
    offset = float(cell["offset"])
    agreed_ns = round(offset * window_ns(scene(cell))[offset < 0])
    clock = PeerClock(int(cell["ahead_ns"]), int(cell["drift_ppb"]))
    late_ns = clock.late_ns(SYNCHRONISED_NS + agreed_ns)
    return Attempt(end_a=end_a, end_b=end_b, offset_ns=agreed_ns + late_ns, scheduler=Scheduler(str(cell["scheduler"])))


def refine(attempts: pd.DataFrame, run: Dataset) -> list[dict[str, Level]]:
    """Points in the gap of each edge, until it is small; then some close around it, until its interval is small.

    Where the claims ask for what happens beyond the delay, through silent NATs and without any, there are to be enough of those,
    and enough with clocks apart.
    """
    enough = ENOUGH // attempts["one_way_ns"].nunique()
    good = keep(with_times(attempts, run.segments)).attempts.dropna(subset=["too_late_ns"])
    wanted = _clocks_again(_clocked(good))
    for name, level in _USUAL.items():
        good = good[good[name] == level]
    for levels, group in good.groupby([*_SERIES, "first"], observed=True):
        path, ends, one_way_ns, first = levels
        usual: dict[str, Level] = {
            "path": str(path),
            "ends": str(ends),
            "one_way_ns": int(str(one_way_ns)),
            "offset": 0.0,
            **_USUAL,
        }
        if first == "a" and path in {"silent", "direct"}:
            wanted += [usual | {"offset": 3.0}] * (enough - int((group["too_late_ns"] > NEAR_NS).sum()))
        if path == "silent":
            continue
        latest_ns = window_ns(scene(usual))[first == "b"]
        lawful_ns = float((group["way_ns"] + group["farther_ns"]).median())  # a real way takes longer than is declared
        wanted += [
            usual | {"offset": round((lawful_ns + beyond) * (-1 if first == "b" else 1) / latest_ns, 7)}
            for beyond in _next_ns(group["too_late_ns"].tolist(), group["opened"].tolist(), latest_ns)
            if lawful_ns + beyond > 0
        ]
    return wanted


def _clocked(attempts: pd.DataFrame) -> pd.DataFrame:
    """Those with clocks apart."""
    return attempts[(attempts["ahead_ns"] != 0) | (attempts["drift_ppb"] != 0)]


def _clocks_again(clocked: pd.DataFrame) -> list[dict[str, Level]]:
    """The cells with clocks apart, each as often as it lacks of its part of enough."""
    wanted: list[dict[str, Level]] = []
    groups = [group for _, group in clocked.groupby("cell", observed=True)]
    for group in groups:
        cell: dict[str, Level] = {name: type(factor.levels[0])(group[name].iloc[0]) for name, factor in FACTORS.items()}
        wanted += [cell] * (-(-CLOCKED // len(groups)) - len(group))
    return wanted


def _next_ns(beyond_ns: list[float], opened: list[bool], latest_ns: int) -> list[float]:
    """Starts beyond the lawful one to try next, given those of an edge so far.

    Where a stall took all that were on one side of it, one is tried again there.
    """
    if all(opened) or not any(opened):
        return [latest_ns / 10 if all(opened) else -latest_ns / 10]
    edge = threshold_edge(beyond_ns, opened)
    if (edge.width <= EDGE_WIDTH_NS and nearness(edge) != "undecided") or len(beyond_ns) >= MOST:
        return []
    if edge.misplaced == 0:
        below = max(at for at, good in zip(beyond_ns, opened, strict=True) if good)
        above = min(at for at, good in zip(beyond_ns, opened, strict=True) if not good)
        if above - below > 2 * EDGE_WIDTH_NS:
            return [below + (above - below) * share for share in _SHARES]
    return [edge.value + step * US for step in _STEPS_US]


def nearness(beyond: Edge) -> Word:
    """Whether an edge lies where the law has it, as near as the bar asks, by its interval."""
    if max(abs(beyond.low), abs(beyond.high)) <= NEAR_NS:
        return "upheld"
    return "refuted" if beyond.low > NEAR_NS or beyond.high < -NEAR_NS else "undecided"


def verdicts(attempts: pd.DataFrame, run: Dataset) -> list[Verdict]:
    """From the undisturbed attempts, by their offsets as captured."""
    timed = with_times(attempts, run.segments)
    edges = window_edges(timed, _SERIES)
    kept = keep(timed).attempts
    return [
        _early(kept),
        _distance(edges),
        _silent(kept),
        *_law(kept, edges),
        _alignment(kept, run),
        _legs(edges),
        *_shares(edges),
        *_ways(attempts),
        _clocks(kept),
    ]


def _early(kept: pd.DataFrame) -> Verdict:
    statement = "without a NAT, a SYN that comes early is answered by RST and both attempts fail"
    early = kept[(kept["path"] == "direct") & (kept["too_late_ns"] > NEAR_NS)]
    failed = (early["outcome_a"] != "established") & (early["outcome_b"] != "established")
    kernel = early["ends"] == "kernel-kernel"
    found = _share("C1", statement, int(failed[kernel].sum()), int(kernel.sum()))
    raw = _share("C1", statement, int(failed[~kernel].sum()), int((~kernel).sum()))
    if (found.verdict, raw.verdict) == ("upheld", "refuted"):
        opened = round((1 - (raw.value or 0)) * raw.n)
        when = f"B's kernel may answer; where it is kept silent (raw ends), {opened} of {raw.n} opened"
        return replace(found, verdict="conditional", why=when)
    return found


def _distance(edges: list[WindowEdge]) -> Verdict:
    statement = "the latest start that still works grows with the one-way delay (ms of it per ms of delay)"
    found = [edge for edge in edges if edge.levels["path"] in {"direct", "resetting"} and edge.levels["ends"] == "kernel-kernel"]
    delays = {edge.levels["one_way_ns"] for edge in found}
    if len(delays) < 2 or len(found) < 3:
        return _missing("C2", statement, f"{len(found)} edges at {len(delays)} delays; three at two are needed")
    grown = slope([edge.one_way_ns for edge in found], [edge.latest_ns for edge in found])
    word: Word = "upheld" if grown.low > 0 else "refuted" if grown.high < 0 else "undecided"
    n = sum(edge.beyond.n for edge in found)
    return Verdict("C2", statement, word, n, grown.value, grown.low, grown.high, unit="ms/ms")


def _silent(kept: pd.DataFrame) -> Verdict:
    statement = "through silent NATs it opens even when the second SYN leaves after the first has come and gone"
    late = kept[(kept["path"] == "silent") & (kept["too_late_ns"] > 0)]
    return _share("C3", statement, int(late["opened"].sum()), len(late))


def _law(kept: pd.DataFrame, edges: list[WindowEdge]) -> list[Verdict]:
    statement = "where early SYNs are reset, the attempt opens if and only if each SYN leaves before the other arrives"
    told = kept[((kept["path"] != "silent") & (kept["ends"] == "kernel-kernel")) & (kept["too_late_ns"].abs() > NEAR_NS)]
    lawful = int(((told["too_late_ns"] < 0) == told["opened"]).sum())
    found = [_share("C10", statement, lawful, len(told))]
    for edge in edges:
        levels = edge.levels
        if levels["ends"] == "kernel-kernel" and levels["path"] in {"direct", "resetting"}:
            path = f"{levels['path']} path of {edge.one_way_ns / MS:.2f} ms, {edge.first.upper()} first"
            words = f"{path}: the edge is within 100 us of the delay"
            word = nearness(edge.beyond)
            why = "its interval reaches beyond 100 us" if word == "undecided" else ""
            found.append(Verdict("edge", words, word, edge.beyond.n, *edge.deviation_us, why, unit="us"))
    return found


def _alignment(kept: pd.DataFrame, run: Dataset) -> Verdict:
    statement = "starts that are more than 100 us apart fail, though less than eight tenths of the one-way delay"
    apart = kept[
        (kept["path"] != "silent")
        & (kept["ends"] == "kernel-kernel")
        & (kept["late_ns"] > 100 * US)
        & (kept["late_ns"] < 0.8 * (kept["way_ns"] + kept["farther_ns"]))
    ]
    share = _share("C11", statement, int((~apart["opened"]).sum()), len(apart))
    if run.manifest.driver != "lab" or share.verdict == "undecided":
        return share
    errors = launch_errors(run.attempts).groupby("scheduler", observed=True)["error_ns"].quantile(0.99) / US
    late = ", ".join(f"{name} {value:.0f} us" for name, value in errors.items())
    shortest = kept.loc[kept["path"] == "resetting", "one_way_ns"].min() / MS
    why = f"a SYN left at most so late (p99, stalls included): {late}; the narrowest window tried is {shortest:g} ms to each side"
    return Verdict(share.claim, statement, share.verdict, share.n, share.value, share.low, share.high, why)


def _legs(edges: list[WindowEdge]) -> Verdict:
    statement = (
        "wherever the delays lie, the window ends where a SYN comes to the far NAT just as the other passes it (edge minus that)"
    )
    found = [edge for edge in edges if edge.levels["path"] in {"unequal", "lopsided", "deep", "askew"}]
    farther_ns = [edge.host_way_ns - edge.lawful_ns for edge in found if edge.levels["path"] in {"deep", "askew"}]
    if not farther_ns:
        return _missing("C20", statement, "no edge on a path whose hosts are farther from each other than their NATs")
    worst = max(found, key=lambda edge: max(map(abs, edge.deviation_us)))
    words = {nearness(edge.beyond) for edge in found}
    word: Word = "refuted" if "refuted" in words else "undecided" if "undecided" in words else "upheld"
    why = f"the worst of {len(found)} edges" + ("; its interval reaches beyond 100 us" if word == "undecided" else "")
    shortest, longest = min(farther_ns) / MS, max(farther_ns) / MS
    why += f"; by the delay from host to host, {len(farther_ns)} of them would lie {shortest:.3g} to {longest:.3g} ms farther out"
    n = sum(edge.beyond.n for edge in found)
    return Verdict("C20", statement, word, n, *worst.deviation_us, why, unit="us")


def _shares(edges: list[WindowEdge]) -> list[Verdict]:
    """What each delay adds to the window, to a hundredth."""
    between, rest = (
        "a delay from NAT to NAT widens the window by itself",
        "a delay from host to NAT, at both alike, does not widen it",
    )
    told = [edge for edge in edges if edge.levels["ends"] == "kernel-kernel"]
    n = sum(edge.beyond.n for edge in told)
    try:
        shares = shares_of_delays(told)
    except BadParameter as error:
        return [_missing("delays", statement, error.why) for statement in (between, rest)]
    found = []
    for statement, share, wanted in zip((between, rest), shares, (1.0, 0.0), strict=True):
        near = max(abs(share.low - wanted), abs(share.high - wanted)) <= SLOPE_BAR
        off = share.low > wanted + SLOPE_BAR or share.high < wanted - SLOPE_BAR
        word: Word = "upheld" if near else "refuted" if off else "undecided"
        why = "" if near or off else f"the interval reaches beyond {SLOPE_BAR:g}"
        found.append(Verdict("delays", statement, word, n, share.value, share.low, share.high, why, unit="ms/ms"))
    return found


def _ways(attempts: pd.DataFrame) -> list[Verdict]:
    # half the difference of the rtt takes both ways for equally long
    offsets = offsets_three_ways(attempts[attempts["path"] != "lopsided"])
    found = []
    for name, other, words in (
        ("planned", "captured", "what was planned and what was captured differ"),
        ("by_rtt", "captured", "what TCP_INFO's rtt say and what was captured differ"),
    ):
        statement = f"the offset is known: {words} by less than 150 us at the median"
        apart = ((offsets[name] - offsets[other]).abs() / US).tolist()
        if len(apart) < 2:
            found.append(_missing("offset", statement, "fewer than two crossings of kernel sockets"))
            continue
        middle = median_of(apart)
        word: Word = "upheld" if middle.high < 150 else "refuted" if middle.low > 150 else "undecided"
        found.append(Verdict("offset", statement, word, len(apart), middle.value, middle.low, middle.high, unit="us"))
    return found


def _clocks(kept: pd.DataFrame) -> Verdict:
    statement = "with clocks apart it opens if and only if what B's shows wrong is less than the window"
    clocked = _clocked(kept)
    cells = (dict(zip(FACTORS, levels, strict=True)) for levels in clocked[list(FACTORS)].itertuples(index=False))
    meant = [_opens(cell) for cell in cells]
    return _share("clock", statement, int((clocked["opened"] == meant).sum()), len(clocked))


def _opens(cell: Cell) -> bool:
    """Whether a cell's start is within the window, by its clocks and delays as declared."""
    offset_ns = attempt(cell).offset_ns
    return abs(offset_ns) < window_ns(scene(cell))[offset_ns < 0]


def _share(claim: str, statement: str, count: int, n: int) -> Verdict:
    if n == 0:
        return _missing(claim, statement, "no undisturbed attempt of that kind")
    share = wilson(count, n)
    word = judge(share, 0.9)
    why = "" if word != "undecided" else f"{count} of {n} do not tell whether nine in ten do"
    return Verdict(claim, statement, word, n, share.estimate, share.low, share.high, why)


def _missing(claim: str, statement: str, why: str) -> Verdict:
    return Verdict(claim, statement, "undecided", 0, why=why)
