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
# # What a capture tells
#
# A capture shows packets at one place. Which handshake was that? The reference captures in `data/captures` hold each wire pattern
# once, from kernel sockets and from crafted packets, seen at eight vantage points between two hosts. They are classified here,
# drawn, and put side by side. Any other capture goes the same way: change the folder below.

# %%
# %matplotlib inline
import os
from pathlib import Path

import pandas as pd

import rawpunch
from rawpunch.analysis.capture_ladder import ladder_of_flow
from rawpunch.analysis.views import patterns_by_view, views_figure

folder = Path(os.environ.get("RAWPUNCH_DATA", "../data")) / "captures"
files = sorted(folder.glob("*.pcapng"))
print(f"rawpunch {rawpunch.__version__}, {len(files)} captures, {sum(path.stat().st_size for path in files) / 1000:.0f} kB")

# %% [markdown]
# ## Segments as rows
#
# `read_capture` gives every TCP segment, and every ICMP error about one, as a row: int64 nanoseconds, the vantage point as
# `interface`, typed columns. This is host A's view of a true simultaneous open.

# %%
crossing = folder / "simultaneous-kernel-kernel.pcapng"
segments = rawpunch.read_capture(crossing)
here = segments[segments["interface"] == "hostA:eth0"]
here.assign(ms=(here["time_ns"] - here["time_ns"].iloc[0]) / 1e6)[
    ["number", "ms", "direction", "kind", "seq", "ack", "payload_length", "ttl"]
]

# %% [markdown]
# ## Handshakes as rows
#
# `classify` puts packets to attempts, merges what several vantage points saw of the same attempt (NATs change addresses and leave
# the initial sequence numbers alone), and says pattern, outcome and the packet that decided it. Each packet counts once, however
# many vantage points saw it.

# %%
captures = {path.stem: rawpunch.classify(path) for path in files}
flows = pd.concat({name: found.flows for name, found in captures.items()}, names=["capture", None]).droplevel(1)
flows[["pattern", "outcome", "syn", "syn_ack", "rst", "icmp_errors", "segments", "decided_by"]]

# %% [markdown]
# Time from the first packet of an attempt until its later end was open. Crossing SYNs need two one-way delays, as an ordinary
# handshake does for its server; what begins late takes that much longer.

# %%
took = ((flows["established_ns"] - flows["first_ns"]) / 1e6).dropna().astype(float).round(2)
took.rename("first packet to both open (ms)").to_frame()

# %% [markdown]
# ## What can one place know?
#
# Each vantage point was asked alone; the last column is what all of them say together. A split handshake and a half-simultaneous
# open are the same packets everywhere but at B: only B's own device shows whether A's SYN got there before B sent its own. What a
# NAT drops or answers, its far side never sees.

# %%
views_figure(patterns_by_view(captures), title="Pattern by vantage point")

# %% [markdown]
# ## A crossing, and what only looks like one
#
# Both begin with two SYNs. In the crossing each SYN leaves before the other arrives, and both ends answer with a SYN-ACK. In the
# split handshake B's SYN is the answer to A's.

# %%
ladder_of_flow(captures["simultaneous-kernel-kernel"], 0)

# %%
ladder_of_flow(captures["split-kernel-raw"], 0)

# %% [markdown]
# ## Every pattern
#
# One ladder of each, for a terminal.

# %%
for pattern, group in flows.groupby("pattern", observed=True):
    name = group.index[0]
    print(name)
    print(ladder_of_flow(captures[name], 0).text(100))

# %% [markdown]
# ## One way, packet by packet
#
# With both hosts' captures at hand, each packet's way can be timed: from its sender's device to its receiver's. The lab holds
# packets for 20 ms; what is beyond is the machine's.

# %%
packets = captures["simultaneous-raw-raw"].packets_of(0)
at_a, at_b = (packets[packets["at"] == end] for end in "ab")
ways = at_a.merge(at_b, on=["from_a", "kind", "seq", "ack"], suffixes=("_a", "_b"))
ways["one_way_ms"] = (ways["time_ns_b"] - ways["time_ns_a"]).abs() / 1e6
ways[["from_a", "kind", "one_way_ms"]]

# %% [markdown]
# ## Captures of any size
#
# `iter_captures` gives a file piece by piece; a few gigabytes need a few hundred megabytes of memory.

# %%
kinds = pd.concat([part["kind"].astype(str) for part in rawpunch.iter_captures(files)]).value_counts()
kinds.rename("segments at all vantage points").to_frame()
