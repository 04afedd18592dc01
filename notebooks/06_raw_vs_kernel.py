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
# # Raw ends against kernel sockets
#
# Do crafted packets do what the kernel's own sockets do: as often, with as many packets and octets, in as much time? And where they differ,
# which packet makes the difference? The data are the newest run of `raw_vs_kernel` in `data/runs`, or else the sample.

# %%
# %matplotlib inline
import os

import rawpunch
from rawpunch.analysis.comparison import compared, effort, first_differences, success_differences
from rawpunch.analysis.forest import Line, forest_figure
from rawpunch.analysis.ladder import ladder_of
from rawpunch.analysis.plots import time_figure
from rawpunch.analysis.statistics import difference, ratio_of_medians, wilson
from rawpunch.analysis.tables import keep
from rawpunch.units import format_duration

run = rawpunch.load("raw_vs_kernel", root=os.environ.get("RAWPUNCH_DATA", "../data"))
taken = effort(run.attempts, run.segments)
print(
    f"{run.manifest.experiment}/{run.manifest.run_id}, {run.manifest.driver}, seed {run.manifest.seed}, "
    f"rawpunch {run.manifest.rawpunch_version}, Linux {run.manifest.machine.kernel}"
)
print(keep(run.attempts))

# %% [markdown]
# ## Do they open as often?
#
# Success of raw ends minus that of kernel sockets, with Newcombe's 95 % interval: over all cells in which an
# attempt is to open (NATs that drop, or SYNs that cross), and cell by cell. A zero means the same; how far apart the two may be and
# still look so is what the interval says. n counts the attempts of both.

# %%
pairs = [name for name in ("raw-raw", "raw-kernel") if (taken["ends"] == name).any()]
lines = []
inside = (taken["nat_answer"] == "drop") | (taken["offset"].abs() < 1)
for pair in pairs:
    opened = {ends: taken.loc[inside & (taken["ends"] == ends), "opened"] for ends in (pair, "kernel-kernel")}
    both = difference(*(wilson(int(one.sum()), len(one)) for one in opened.values()))
    lines.append(Line(f"all that are to open, {pair}", both.value, both.low, both.high, sum(both.n), pair))
    table = success_differences(taken, ["nat_answer", "offset"], factor="ends", one=pair, other="kernel-kernel")
    lines += [
        Line(
            f"NATs: {row['nat_answer']}, offset {row['offset']:g}, {pair}",
            row["difference"],
            row["low"],
            row["high"],
            int(row[f"n_{pair}"] + row["n_kernel-kernel"]),
            pair,
        )
        for row in table.to_dict("records")
    ]
forest_figure(lines, title="Do raw ends open as often as kernel sockets?", xlabel="difference of the shares that open", at=0)

# %% [markdown]
# ## What does it take?
#
# Medians of the undisturbed attempts; packets and octets of both hosts until the handshake was over. Times are of one one-way delay
# each. Below the table, the ratio of the medians with its 95 % interval: what crafting a packet in Python costs.

# %%
compared(taken, ["one_way_ns", "nat_answer", "offset", "ends"])

# %%
crossed = taken[(taken["pattern"] == "simultaneous") & (taken["offset"] == 0)]
for one_way_ns, cell in crossed.groupby("one_way_ns"):
    kernel = cell.loc[cell["ends"] == "kernel-kernel", "connect_ns"].dropna().astype(float).tolist()
    for pair in pairs:
        raw = cell.loc[cell["ends"] == pair, "connect_ns"].dropna().astype(float).tolist()
        if min(len(raw), len(kernel)) > 1:
            print(
                f"{format_duration(int(one_way_ns))}, {pair}: time, ratio of medians to kernel sockets {ratio_of_medians(raw, kernel)}"
            )

# %%
longest = run.attempts[(run.attempts["offset"] == 0) & (run.attempts["one_way_ns"] == run.attempts["one_way_ns"].max())]
time_figure(longest, "ends", title="Time to ESTABLISHED at A, no offset")

# %% [markdown]
# ## Which packet makes the difference?
#
# The first packet in which the most frequent course of raw ends differs from that of kernel sockets (none: no row).

# %%
first_differences(taken, run.segments, ["nat_answer", "offset"], factor="ends", one="raw-raw", other="kernel-kernel")

# %% [markdown]
# ## The same crossing, by kernel sockets and by crafted packets
#
# One attempt of each kind, and what draws it in a terminal.

# %%
longest = crossed[crossed["one_way_ns"] == crossed["one_way_ns"].max()]
for ends, group in longest.groupby("ends", observed=True):
    print(f"rawpunch ladder {run.manifest.experiment}/{run.manifest.run_id} {group['attempt'].iloc[0]}")
    display(ladder_of(run, group["attempt"].iloc[0]))
