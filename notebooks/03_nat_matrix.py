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
# # Which NATs can be punched through together?
#
# Two hosts behind NATs ask an observer what they look like outside, and open towards each other. The data are a run of the
# experiment `nat_matrix`: the newest one in `data/runs`, or else the simulated sample that comes with the toolkit, of twelve
# personas. `rawpunch run nat_matrix --on sim` makes all of them.

# %%
# %matplotlib inline
import os

import pandas as pd

import rawpunch
from rawpunch.analysis.matrix_plots import matrix_figure
from rawpunch.analysis.tables import keep, patterns, success_by
from rawpunch.nat import oracle, personas

pd.set_option("display.max_colwidth", None)

run = rawpunch.load("nat_matrix", root=os.environ.get("RAWPUNCH_DATA", "../data"))
attempts = run.attempts
print(
    f"{run.manifest.experiment}/{run.manifest.run_id}, by the {run.manifest.driver}, seed {run.manifest.seed}, "
    f"rawpunch {run.manifest.rawpunch_version}"
)
print(keep(attempts))

# %% [markdown]
# ## Together
#
# B starts half a one-way delay after A, so the SYNs cross. Most pairs open. Those do not in which one NAT gives each connection
# another port, so that the peer aims at a wrong one; in which A's NAT is spoilt by a crossing SYN, or B's; or in which neither NAT
# lets out a SYN-ACK. Each cell has n and the Wilson interval of its share: the simulator has no luck, so two attempts show what
# happens, and prove no more than the interval says.

# %%
together = attempts[attempts["offset"] == attempts["offset"].min()]
matrix_figure(together, "nat_a", "nat_b", title="Opened, B half a one-way delay after A")

# %% [markdown]
# ## Too late
#
# If B starts when A's SYN has already come to B's NAT, what happens there decides. Silence does no harm. A RST or an ICMP error ends
# A's attempt, and a NAT that is open to all lets the SYN in to a host that does not expect it yet, and resets it. Order also saves
# what simultaneity cannot: behind B's NAT, which a crossing SYN spoils, all is well when A's SYN comes too early to cross.

# %%
late = attempts[attempts["offset"] == attempts["offset"].max()]
if len(late) < len(attempts):
    display(matrix_figure(late, "nat_a", "nat_b", title="Opened, B two and a half one-way delays after A"))

# %% [markdown]
# ## As it was foretold?
#
# The oracle reasons about two behaviours and moves no packet. It shares no code with the NAT machine.

# %%
for verdict in run.manifest.verdicts:
    print(
        f"{verdict['verdict']}: {verdict['statement']}, {verdict['value']:.3f} [{verdict['low']:.3f}, {verdict['high']:.3f}], n = {verdict['n']}"
    )


# %%
def reason(a: str, b: str, offset: float) -> str:
    return oracle.simultaneous(
        personas.load(a).behavior,
        personas.load(b).behavior,
        offset_ns=round(offset * 20_000_000),
        aim=oracle.Aim.LEARNED,
        give_up_ns=2_500_000_000,
    ).why


failed = keep(attempts).attempts.query("outcome != 'established'")
cells = failed.groupby(["nat_a", "nat_b", "offset", "outcome"], observed=True).size().rename("n").reset_index()
cells["why"] = [reason(row.nat_a, row.nat_b, row.offset) for row in cells.itertuples()]
cells.groupby(["outcome", "why"], observed=True).agg(cells=("n", "size"), attempts=("n", "sum")).sort_values(
    "cells", ascending=False
)

# %% [markdown]
# ## What was seen on the wire?

# %%
patterns(attempts, ["offset"])

# %%
success_by(attempts, ["offset"])
