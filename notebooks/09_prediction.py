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
# # Foretelling ports, and spraying where that fails
#
# Behind a NAT with a mapping for each remote endpoint, nobody can be told the port that the next connection will get. Either it can
# be foretold from those before, or it is drawn, and then only numbers help: open many, try many. Both have odds that can be stated
# beforehand. Do they hold?
#
# The data are runs of the experiments `prediction` and `spray`: SYNs through NATs, and the external port of each. They are the
# newest ones in `data/runs`, or else the simulated samples that come with the toolkit.

# %%
# %matplotlib inline
import os

import pandas as pd

import rawpunch
from rawpunch.analysis.foretelling import COUNTS, calibration, forecasts, guesses_figure, hit, spray_figure, spray_table, sprays
from rawpunch.punch.birthday import SHARES, both_drawn, pairs_needed, tries_needed

DATA = os.environ.get("RAWPUNCH_DATA", "../data")
prediction, spray = rawpunch.load("prediction", root=DATA), rawpunch.load("spray", root=DATA)
for run in (prediction, spray):
    print(
        f"{run.manifest.experiment}/{run.manifest.run_id}, by the {run.manifest.driver}, seed {run.manifest.seed}: "
        f"{int(run.attempts['syn_a'].sum())} SYNs in {len(run.attempts)} samples"
    )

# %% [markdown]
# ## How many ports must be guessed?
#
# A forecast is made from the mappings before it alone: every rule that a NAT may follow is weighed by how likely it makes what was
# seen. Points are the share of hits, lines the odds that were stated beforehand. Others' connections between two of ours cost
# guesses where a NAT counts; where it draws nothing helps but the width of its band.

# %%
table = forecasts(prediction, every=8)
guesses_figure(table, title="How many ports must be guessed to meet the next one")

# %% [markdown]
# ## Are stated odds honest?
#
# Over all forecasts: mean odds as stated, share of hits with its interval, and how many standard deviations lie between. The
# cross traffic of this experiment is spread evenly from none to twice its mean, which no rule of the forecast says: it believes in
# Poisson or in bursts, and is a little too sure of its very first guess.

# %%
pd.DataFrame(
    [(count, *(round(value, 3) for value in calibration(table, count)), str(hit(table, count))) for count in COUNTS],
    columns=["guesses", "stated", "hit", "off by (s.d.)", "interval"],
)

# %% [markdown]
# ## What does a spray cost?
#
# With k ports open out of N, m different ones tried miss all of them with odds C(N-k, m) / C(N, m). That is cheap where one NAT
# draws: a few hundred SYNs from each side. Where both draw a hit must name both ports at once, and only narrow bands give way.

# %%
pd.DataFrame(
    [
        (ports, share, pairs_needed(share, ports), tries_needed(share, min(256, ports), ports))
        for ports in (64_512, 28_232, 4_096, 2_048, 512)
        for share in SHARES
    ],
    columns=["ports N", "odds", "open and try, each", "try, with 256 open"],
).pivot_table(index="ports N", columns="odds", sort=False)

# %%
print("both draw from N ports, 1,024 SYNs from each side at most:")
for ports in (64_512, 4_096, 2_048, 512):
    each = min(ports, 1024)
    print(f"N = {ports}: {both_drawn(each, each, ports, ports):.2%}")

# %% [markdown]
# ## Do sprays hit as theory says?
#
# Each sample's ports are open; the tries are drawn from a stream that the NAT knows nothing of. Theory is the diagonal.

# %%
sprayed = sprays(spray, (64, 256, 1024))
spray_figure(sprayed, title="Sprays that hit, against theory")

# %%
spray_table(sprayed)

# %% [markdown]
# What the experiments conclude from all that:

# %%
pd.DataFrame(
    [
        {name: verdict[name] for name in ("claim", "statement", "verdict", "n", "value", "low", "high")}
        for run in (prediction, spray)
        for verdict in run.manifest.verdicts
    ]
).round(3)
