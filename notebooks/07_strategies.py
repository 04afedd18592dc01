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
# # Which strategy connects which pair of NATs?
#
# Two hosts behind NATs of kernel rules and of user space, sixteen ways to connect them. The data are a run of the experiment
# `strategies`: the newest one in `data/runs`, or else the sample that comes with the toolkit, made in the lab with some of the
# pairs. `rawpunch run strategies` makes all of them, in about two minutes; `--on sim` in seconds.

# %%
# %matplotlib inline
import os

import pandas as pd

import rawpunch
from rawpunch.analysis.ladder import ladder_of
from rawpunch.analysis.matrix_plots import matrix_figure
from rawpunch.analysis.strategies import FORETELL, Table
from rawpunch.analysis.tables import keep, patterns, success_by
from rawpunch.study.experiment import Experiment

pd.set_option("display.max_colwidth", None)

run = rawpunch.load("strategies", root=os.environ.get("RAWPUNCH_DATA", "../data"))
attempts = run.attempts
print(
    f"{run.manifest.experiment}/{run.manifest.run_id}, by the {run.manifest.driver}, seed {run.manifest.seed}, "
    f"rawpunch {run.manifest.rawpunch_version}"
)
print(keep(attempts))

# %% [markdown]
# ## The table
#
# Nothing but the relay connects every pair. Of the ways that need no third party in between, a first SYN that dies on the way
# (`low_ttl`) opens all pairs whose ports an observer can see, but those in which a crossing SYN spoils the other side's NAT;
# simultaneity opens as many, and needs the clock; order alone fails where the far NAT resets the one that comes too early, or where
# it is open to all, so that the host behind it does. Where a NAT gives each connection another port, only foretelling the port
# helps, or a peer that can be reached. `_a` and `_b` say which side goes first, listens, or sends the SYN that dies.
# In each cell are the attempts that opened of those that count, and the 95 % interval of their share; of an empty cell all attempts
# were disturbed.

# %%
matrix_figure(attempts, "pair", "strategy", title="Opened, by strategy and pair of NATs")

# %% [markdown]
# ## And the oracle?
#
# For twelve of the sixteen the oracle says beforehand, by reasoning about the two behaviours, whether they work. This is how many
# attempts ended as it says, and the cells in which none did.

# %%
table = Table(keep(attempts).attempts)
agreed, against = table.against_the_oracle()
print(f"as the oracle says: {agreed}; cells against it: {', '.join(against) or 'none'}")
success_by(attempts[attempts["strategy"].isin(list(FORETELL))], "strategy")

# %% [markdown]
# ## Why a poked listener is a toss-up
#
# In `stunt_a` A sends a SYN that dies, closes, and *listens*: its kernel answers B's SYN with an initial sequence number of its own.
# A conntrack that has seen the SYN lets that SYN-ACK out only if its number lies behind the SYN's, modulo 2³². So it passes half of
# the time, and never if it is sent again. An end that answers with the number of its own SYN, as every simultaneous open does
# (`low_ttl_a`), always passes.

# %%
success_by(attempts[attempts["strategy"].isin(["stunt_a", "stunt_b", "low_ttl_a", "low_ttl_b"])], ["strategy"])

# %% [markdown]
# ## What happened on the wire
#
# A strategy is not a pattern: where the SYNs cross both ends run a simultaneous open, and where one of them never arrives only one
# does.

# %%
patterns(attempts, "strategy")

# %% [markdown]
# ## Look at some
#
# An attempt each: a SYN that dies on its way and the crossing that it makes possible, a strategy that comes too early for the far NAT,
# and the listener whose SYN-ACK its own NAT does not let out. The line above each draws it in a terminal.

# %%
good = keep(attempts).attempts
telling = {
    "a first SYN that dies": (good["strategy"] == "low_ttl_a") & (good["outcome"] == "established"),
    "too early for the far NAT": (good["strategy"] == "ordered_a") & (good["pattern"] == "refused"),
    "a SYN-ACK that is not let out": (good["strategy"] == "stunt_a")
    & (good["outcome"] != "established")
    & (good["syn_ack_a"] > 0),
}
for what, such in telling.items():
    for attempt in good.loc[such, "attempt"].head(1):
        print(f"{what}: rawpunch ladder {run.manifest.experiment}/{run.manifest.run_id} {attempt}")
        display(ladder_of(run, attempt))

# %% [markdown]
# ## What the run says of the claims
#
# Each by its own 95 % interval. What would hold if all verdicts of all runs are to hold together, `rawpunch claims` says.

# %%
pd.DataFrame(
    [verdict.to_document() for verdict in Experiment.load("strategies").verdicts(run)],
    columns=["claim", "verdict", "n", "value", "low", "high", "statement", "why"],
)
