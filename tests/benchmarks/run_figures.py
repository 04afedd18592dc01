"""Figures from a run's own data: launch error, SYN-ACK delay, time to ESTABLISHED, throughput.

./dev run python tests/benchmarks/run_figures.py raw_vs_kernel
"""

from __future__ import annotations

import sys

import pandas as pd

import rawpunch
from rawpunch.analysis.statistics import ratio_of_medians


def _of(attempts: pd.DataFrame, column: str, kind: str) -> pd.Series[float]:
    sides = [attempts[column.replace("X", side)][attempts[f"end_{side}"] == kind] for side in "ab"]
    together: pd.Series[float] = pd.concat(sides).dropna().astype("float64")
    return together


def main() -> None:
    """All figures of a run."""
    dataset = rawpunch.load(sys.argv[1])
    attempts = dataset.attempts
    print(f"{dataset.path}: {len(attempts)} attempts, {int(attempts.disturbed.sum())} disturbed")
    span_s = (attempts.planned_a_ns.max() - attempts.planned_a_ns.min()) / 1e9
    created, ended = dataset.manifest.created, dataset.manifest.ended
    whole_s = (ended - created).total_seconds() if ended else float("nan")
    print(f"first to last launch {span_s:.1f} s, the whole run {whole_s:.1f} s")
    for kind in ("kernel", "raw"):
        error_us = (_of(attempts, "sent_X_ns", kind) - _of(attempts, "planned_X_ns", kind)) / 1000
        p50, p99 = error_us.abs().quantile([0.5, 0.99])
        print(f"launch error, {kind}: p50 {p50:.1f} us, p99 {p99:.1f} us, n = {len(error_us)}")
        calm = attempts[~attempts.disturbed]
        error_us = (_of(calm, "sent_X_ns", kind) - _of(calm, "planned_X_ns", kind)) / 1000
        p50, p99 = error_us.abs().quantile([0.5, 0.99])
        print(f"    of undisturbed attempts: p50 {p50:.1f} us, p99 {p99:.1f} us, n = {len(error_us)}")
        answer_us = _of(attempts, "syn_ack_delay_X_ns", kind) / 1000
        p50, p99 = answer_us.quantile([0.5, 0.99])
        print(f"SYN in to SYN-ACK out, {kind}: p50 {p50:.1f} us, p99 {p99:.1f} us, n = {len(answer_us)}")
    good = attempts[~attempts.disturbed & (attempts.outcome == "established")]
    for one_way_ns, group in good.groupby("one_way_ns"):
        took = {kind: _of(group[group.ends == f"{kind}-{kind}"], "connect_X_ns", kind).tolist() for kind in ("raw", "kernel")}
        ratio = ratio_of_medians(took["raw"], took["kernel"])
        print(f"time to ESTABLISHED at {float(str(one_way_ns)) / 1e6:g} ms one-way, raw-raw over kernel-kernel: {ratio}")


if __name__ == "__main__":
    main()
