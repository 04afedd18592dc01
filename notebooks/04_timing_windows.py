# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Timing windows
#
# How late may the second SYN leave? Where something answers an early SYN with a RST (a NAT, or a host without one), it must leave
# before the first one arrives: the window is one one-way delay wide, each way. Where nobody answers, there is no window. The delay
# that counts is the one from NAT to NAT, however far the hosts are behind their NATs.
# The data are the newest run of `timing_window` in `data/runs`, or else the sample that comes with the toolkit.

# %%
# %matplotlib inline
import os

import rawpunch
from rawpunch.analysis.forest import errors_figure
from rawpunch.analysis.ladder import ladder_of
from rawpunch.analysis.tables import keep
from rawpunch.analysis.timing import (
    clock_shifts,
    launch_errors,
    median_of,
    offsets_three_ways,
    shares_of_delays,
    window_edges,
    with_times,
)
from rawpunch.analysis.window_plots import delays_figure, edges_figure, window_figure
from rawpunch.errors import BadParameter

run = rawpunch.load("timing_window", root=os.environ.get("RAWPUNCH_DATA", "../data"))
timed = with_times(run.attempts, run.segments)
usual = timed[(timed["scheduler"] == "spin") & (timed["ahead_ns"] == 0) & (timed["drift_ppb"] == 0)]
print(
    f"{run.manifest.experiment}/{run.manifest.run_id}, {run.manifest.driver}, seed {run.manifest.seed}, "
    f"rawpunch {run.manifest.rawpunch_version}, Linux {run.manifest.machine.kernel}"
)

# %% [markdown]
# ## Which attempts opened?
#
# Each mark is an attempt, placed by what the captures say: when the second end's SYN passed its own NAT (or left its host, where there
# is none), after the first one's SYN had come to the other side of it. The axis is linear around zero, logarithmic beyond.
#
# `direct` has no NAT; `silent` NATs drop a SYN that they do not expect, the others reset it. `unequal` has legs of 1:3, `lopsided`
# half the delay on the way back. The hosts are next to their NATs, but in `deep`, where each is one and a half delays behind its own,
# and in `askew`, where A is a delay behind its NAT and B half a delay.

# %%
window_figure(usual, ["path", "one_way_ns"], title="Which attempts opened?")

# %% [markdown]
# ## Where is the edge?
#
# A's SYN passes its own NAT after its way there, and comes to B's NAT after the delay between the two. B's SYN passes that after its
# own way there. So the latest start of B that is lawful is the delay from NAT to NAT, plus what A has farther to its NAT than B.
# A threshold is fitted for each path, delay and order, each attempt measured against its own delays; the interval is a bootstrap's.
# The offsets were not a grid: each round tried what the rounds before had left open.

# %%
edges = window_edges(usual, ["path", "ends", "one_way_ns"])
edges_figure(edges, title="Where does the window end?")

# %%
for edge in edges:
    middle, low, high = edge.deviation_us
    print(
        f"{edge.levels['path']:<10} {edge.one_way_ns / 1e6:7.3f} ms measured, {edge.first.upper()} first: latest start "
        f"{edge.latest_ns / 1e6:7.3f} ms, {middle:+.0f} us [{low:+.0f}, {high:+.0f}], n = {edge.beyond.n}"
    )

# %% [markdown]
# ## From NAT to NAT, or from host to host?
#
# The same edges, against both delays. On the diagonal lies what is as wide as that delay: hosts that are four delays from each other
# (`deep`) have the window of one, and what moves it is but the difference of their ways to their NATs (`askew`).

# %%
delays_figure(edges, title="From NAT to NAT, or from host to host?")

# %%
try:
    between, rest = shares_of_delays(edges)
    for what, share in (("from NAT to NAT", between), ("more from host to host", rest)):
        print(f"each ms {what} widens the window by {share.value:.4f} ms [{share.low:.4f}, {share.high:.4f}], {share.n[0]} edges")
except BadParameter as error:
    print(error)

# %% [markdown]
# ## Is the offset known?
#
# Three ways: as planned; by the kernel's time stamps in the capture; and without any clock, from what the two sockets say of their round
# trips, (rttB - rttA)/2, which takes both ways for equally long and is off by their difference where they are not.

# %%
even = keep(run.attempts).attempts.query("path != 'lopsided'")
offsets = offsets_three_ways(even)
differences = {
    "planned, against captured": ((offsets["planned"] - offsets["captured"]) / 1000).tolist(),
    "by rtt, against captured": ((offsets["by_rtt"] - offsets["captured"]) / 1000).tolist(),
}
errors_figure(differences, title="Three ways to know an offset", xlabel="difference (us)", bar=150)

# %%
for name, values in differences.items():
    size = median_of([abs(value) for value in values])
    print(f"{name}: median of the size {size.value:.1f} us [{size.low:.1f}, {size.high:.1f}], n = {size.n[0]}")

# %% [markdown]
# ## How punctual is a start?
#
# Sleeping and then spinning, sleeping alone, and looking at the clock once a millisecond. All of them are far better than windows of
# milliseconds need. (Stalls of the machine are in here: nothing is left out.)

# %%
errors = launch_errors(run.attempts)
by_scheduler = {str(name): (group["error_ns"] / 1000).tolist() for name, group in errors.groupby("scheduler", observed=True)}
errors_figure(by_scheduler, title="How late a SYN leaves", xlabel="after its planned instant (us)")

# %% [markdown]
# ## Clocks that lie
#
# All namespaces of a lab share one clock, so a peer's own is simulated: B starts when its clock says so, and ten minutes ago that was
# set too far ahead, or has run at another rate since (20,000 ppb: 12 ms in ten minutes). Both mean to start at once. What the clock
# makes of that is planned, the captures say what came of it; it opens where that is less than the window.

# %%
clocks = timed[(timed["ahead_ns"] != 0) | (timed["drift_ppb"] != 0)]
clock_shifts(clocks).round(3)

# %% [markdown]
# ## In time, and too late
#
# The closest ones of either kind; with the hosts next to their NATs, and far behind them.

# %%
near = keep(usual).attempts.query("path in ('resetting', 'deep')").dropna(subset=["too_late_ns"])
for (path, opened), group in near.groupby(["path", "opened"], observed=True, sort=False):
    closest = group.loc[group["too_late_ns"].abs().idxmin()]
    print(f"{path}, {closest['too_late_ns'] / 1000:+.0f} us, {closest['outcome']}")
    print(ladder_of(run, closest["attempt"]).text())
