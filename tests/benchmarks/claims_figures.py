"""Whether the claims' verdicts come out the same again and again, and how long the quick set takes. Run it on a quiet machine.

./dev run python tests/benchmarks/claims_figures.py [RERUNS [SEED]]

Each rerun is `rawpunch claims --run --quick` as a process of its own, with the same seed, in a folder that is removed afterwards.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time


def main(reruns: int, seed: int) -> int:
    """Measure, and print what differs; 1 if something does."""
    took_s: list[float] = []
    seen: dict[str, list[str]] = {}
    for rerun in range(1, reruns + 1):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            words = [sys.executable, "-m", "rawpunch.cli.app", "claims", "--run", "--quick", "--json"]
            done = subprocess.run([*words, "--seed", str(seed), "--data", folder], capture_output=True, text=True, check=False)
            took_s.append(time.monotonic() - began)
        if done.returncode not in (0, 5):
            print(done.stderr)
            return done.returncode
        found = json.loads(done.stdout)
        runs = found["runs"]
        print(
            f"rerun {rerun}: {took_s[-1]:.0f} s, {sum(run['attempts'] for run in runs)} attempts, "
            f"{sum(run['disturbed'] for run in runs)} disturbed, {sum(run['not_measured'] for run in runs)} not measured",
            flush=True,
        )
        for claim in found["claims"]:
            seen.setdefault(claim["claim"], []).append(claim["verdict"])
    differing = {claim: words for claim, words in seen.items() if len(set(words)) > 1}
    for claim, words in differing.items():
        print(f"{claim}: {', '.join(words)}")
    undecided = ", ".join(claim for claim, words in seen.items() if set(words) == {"undecided"}) or "none"
    print(f"{len(seen) - len(differing)} of {len(seen)} verdicts the same in {reruns} reruns; undecided: {undecided}")
    print(f"a rerun takes {statistics.median(took_s):.0f} s (median), {max(took_s):.0f} s at most")
    return 1 if differing else 0


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*(arguments + [10, 7][len(arguments) :])))
