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
# # The first punch
#
# Two hosts behind two NATs send each other a SYN. When does one connection come of it, and do crafted packets do as well as the
# kernel's own sockets? The data are a run of the experiment `raw_vs_kernel`: the newest one in `data/runs`, or else the sample
# that comes with the toolkit.

# %%
# %matplotlib inline
import os

import rawpunch
from rawpunch.analysis.ladder import ladder_of
from rawpunch.analysis.plots import success_figure, time_figure
from rawpunch.analysis.statistics import ratio_of_medians
from rawpunch.analysis.tables import keep, patterns, success_by

run = rawpunch.load("raw_vs_kernel", root=os.environ.get("RAWPUNCH_DATA", "../data"))
attempts = run.attempts
print(
    f"{run.manifest.experiment}/{run.manifest.run_id}, seed {run.manifest.seed}, rawpunch {run.manifest.rawpunch_version}, "
    f"Linux {run.manifest.machine.kernel}"
)
print(keep(attempts))

# %% [markdown]
# ## Does it open?
#
# Inside the window (B starts before A's SYN arrives: offset below one one-way delay) every pair of ends opens, whatever the NATs
# answer. Outside it, a silent NAT still lets it happen, and a NAT that resets does not. Bars are shares with Wilson's 95 % interval.

# %%
late = attempts[attempts["offset"] > 1]
success_figure(late, "nat_answer", "ends", title="B starts two one-way delays after A")

# %%
early = attempts[attempts["offset"] < 1]
success_figure(early, "nat_answer", "ends", title="B starts within one one-way delay of A")

# %%
success_by(attempts, ["nat_answer", "offset", "ends"])

# %% [markdown]
# ## How long does it take?
#
# From an end's own first SYN until its program knows that it is connected. Through crossing SYNs that is two one-way delays after
# the later SYN. Attempts that never opened are censored, not left out.

# %%
crossed = attempts[(attempts["offset"] == 0) & (attempts["one_way_ns"] == 20_000_000)]
time_figure(crossed, "ends", title="Time to ESTABLISHED at A, no offset, 20 ms one-way")

# %%
opened = keep(crossed).attempts
times = {ends: group["connect_a_ns"].dropna().astype(float).tolist() for ends, group in opened.groupby("ends")}
print("raw-raw over kernel-kernel, ratio of medians:", ratio_of_medians(times["raw-raw"], times["kernel-kernel"]))

# %% [markdown]
# ## What happened on the wire?
#
# The wire pattern is told from the packets that both hosts saw.

# %%
patterns(attempts, ["nat_answer", "offset"])

# %% [markdown]
# One attempt of each pattern, to time scale. Where two SYNs are on the path at once their lines cross.

# %%
ladders = {
    pattern: ladder_of(run, group["attempt"].iloc[0])
    for pattern, group in keep(attempts).attempts.groupby("pattern", observed=True)
}
for pattern, drawing in ladders.items():
    print(pattern)
    print(drawing.text())

# %% [markdown]
# The same for a notebook's eye: the true crossing.

# %%
ladders["simultaneous"]
