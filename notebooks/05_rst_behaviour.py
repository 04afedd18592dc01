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
# # What a RST does
#
# A SYN that comes too early may be answered by a RST or an ICMP error. What does that do to the end that sent it, and to the mapping in the
# NAT that the error passes on its way? The data are the newest run of `rst_behaviour` in `data/runs`, or else the sample.

# %%
# %matplotlib inline
import os

import rawpunch
from rawpunch.analysis.forest import Line, forest_figure
from rawpunch.analysis.ladder import ladder_of
from rawpunch.analysis.lifetimes import Watched, lifetimes_figure, looks_by
from rawpunch.analysis.plots import success_figure
from rawpunch.analysis.tables import keep
from rawpunch.study.experiment import Experiment

run = rawpunch.load("rst_behaviour", root=os.environ.get("RAWPUNCH_DATA", "../data"))
verdicts = Experiment.load("rst_behaviour").verdicts(run)
good = keep(run.attempts)
print(
    f"{run.manifest.experiment}/{run.manifest.run_id}, {run.manifest.driver}, seed {run.manifest.seed}, "
    f"rawpunch {run.manifest.rawpunch_version}, Linux {run.manifest.machine.kernel}"
)
print(good)

# %% [markdown]
# ## Does the mapping live on?
#
# A peer without a NAT answers A's SYN with the packet named on the left, and 60 ms later sends another one. Whether that one comes through to
# A's host shows whether A's NAT still has the mapping. Bars are Wilson's 95 % intervals.

# %%
lines = []
for verdict in verdicts:
    if verdict.claim == "mapping" and verdict.n:
        what, _, rest = verdict.statement.partition(", ")
        kind = rest.partition(" end:")[0]
        near = rest.partition("a NAT that ")[2].partition(" lives on")[0].partition(" is gone")[0]
        lines.append(Line(f"{what}, {kind} end", verdict.value, verdict.low, verdict.high, verdict.n, f"NAT that {near}"))
forest_figure(
    sorted(lines, key=lambda line: line.label),
    title="What comes through 60 ms after an error",
    xlabel="share of later packets that reach A's host",
    foot=str(good),
)

# %% [markdown]
# ## And how long?
#
# A packet that comes through may keep the mapping alive, so each attempt looks once, at an instant of its own after the error. The lifetime
# lies between the last look at which the mapping was there and the first at which it was gone; a mapping that was there at every look lives
# longer than it was watched (an arrow). What the states' timers let expect is in the verdicts: conntrack's CLOSE lasts 10 s, those of the other two
# NATs, which are boxes, 1 s.

# %%
put = good.attempts[(good.attempts["end"] == "raw") & good.attempts["answer"].str.contains(";")]
rows = [
    Watched(f"{answer.rpartition('; ')[0]}, NAT {near}", looks)
    for (near, answer), looks in looks_by(put, run.segments, ["near", "answer"]).items()
]
lifetimes_figure(
    rows,
    title="How long a mapping lives on after an error",
    xlabel="seconds after the error",
    foot=str(good),
)

# %%
for verdict in verdicts:
    if verdict.claim == "lifetime":
        span = f"[{verdict.low:.3g}, {verdict.high:.3g}] s" if verdict.low is not None else verdict.why
        print(f"{verdict.verdict:<10} n={verdict.n:<3} {verdict.statement:<82} {span}")

# %% [markdown]
# ## And the end that gets it?

# %%
for verdict in verdicts:
    if verdict.claim == "mapping":
        print(f"{verdict.statement.partition(': ')[0]:<45} n={verdict.n:<3} {verdict.why}")

# %% [markdown]
# ## Is it worth trying again?
#
# B's NAT resets A's early SYN, then A's NAT resets B's. Raw ends open again 300 ms after a RST, from the same port; a kernel socket is dead.

# %%
far = run.attempts[run.attempts["answer"] == "far NAT"]
success_figure(far, "near", "end", title="After the far NAT's RST: does trying again help?")

# %%
for verdict in verdicts:
    if verdict.claim in {"C18", "sender", "port"}:
        print(f"{verdict.verdict:<11} n={verdict.n:<3} {verdict.statement}" + (f" ({verdict.why})" if verdict.why else ""))

# %% [markdown]
# ## On the wire

# %%
shown = good.attempts[(good.attempts["answer"] == "far NAT") & (good.attempts["end"] == "kernel")]
for near, group in shown.groupby("near", observed=True):
    print(f"A's NAT {near} at a RST")
    print(ladder_of(run, group["attempt"].iloc[0]).text())
