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
# # Which port comes next?
#
# Behind a NAT that gives every connection a port of its own, a peer has to know that port beforehand. Can it be told? The data are
# a run of the experiment `port_allocation`: SYNs through NATs of many kinds, left unanswered, and the external port of each. It is
# the newest run in `data/runs`, or else the simulated sample that comes with the toolkit; `rawpunch run port_allocation` makes one
# in the lab.

# %%
# %matplotlib inline
import os

import pandas as pd

import rawpunch
from rawpunch.analysis.port_plots import band_figure, lag_figure, odds_figure, step_figure
from rawpunch.analysis.ports import ports_by, samples

run = rawpunch.load("port_allocation", root=os.environ.get("RAWPUNCH_DATA", "../data"))
table = samples(run)
print(
    f"{run.manifest.experiment}/{run.manifest.run_id}, by the {run.manifest.driver}, seed {run.manifest.seed}, "
    f"rawpunch {run.manifest.rawpunch_version}: {int(run.attempts['syn_a'].sum())} SYNs in {len(run.attempts)} samples, "
    f"{int(table['own'].sum())} of them mapped"
)

# %% [markdown]
# ## Can it be told?
#
# Each connection comes from another inside port, drawn at random. A peer that has seen the mappings before guesses: a port that was
# always kept is kept again, else the steps seen so far go on. NATs that keep ports or count are told at the first guess, until other
# hosts' connections (`foreign`, so many on average between two of ours) use up ports in between: then a handful of guesses is needed.
# NATs that draw are not told.

# %%
apart = table[table["sources"] == "random"]
odds_figure(apart, title="How often the next port is told beforehand")

# %% [markdown]
# The same in figures, with one guess.

# %%
pd.DataFrame(
    [
        (*levels, found.mapped, found.lost, f"{found.low}-{found.high}", found.step, found.kept, str(found.next_port))
        for levels, found in ports_by(run, ["nat_a", "sources", "foreign"])
    ],
    columns=["nat_a", "sources", "foreign", "mapped", "lost", "ports", "commonest step", "kept", "told at the first guess"],
)

# %% [markdown]
# ## What follows what?
#
# Each port against the one before it, without cross traffic. A line is a step, a cloud is chance. Where ports are kept the cloud is
# that of the inside ports: the figure looks like chance, and the port is known all the same.

# %%
calm = apart[apart["foreign"] == 0]
lag_figure(calm, title="Lag plot of external ports")

# %%
step_figure(calm, title="Steps from one external port to the next")

# %% [markdown]
# Cross traffic blurs the steps of those that count, and leaves the others as they are.

# %%
step_figure(apart[apart["foreign"] > 0], title="The same with connections of another host in between")

# %% [markdown]
# ## In which band?
#
# A band narrows the guesses: one of 2,048 ports is found 32 times as easily as one of 64,512.

# %%
band_figure(calm, title="Where the external ports lie")

# %% [markdown]
# ## One inside port, many destinations
#
# With endpoint-independent mapping all connections of one inside port look alike outside, and what one observer sees is what every
# peer may aim at. With any other mapping each destination sees another port.

# %%
same = table[(table["sources"] == "same") & table["own"]]
same.groupby(["nat_a", "attempt"], observed=True)["external_port"].nunique().groupby("nat_a", observed=True).agg(
    ["min", "max", "size"]
).rename(columns={"min": "fewest external ports", "max": "most", "size": "samples"})
