"""What this machine can do for the lab, one finding a line, each with the command that mends it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from rawpunch.capture.ring import Ring
from rawpunch.errors import RawpunchError
from rawpunch.lab import features, standing
from rawpunch.lab.nat_rules import core_ruleset, nat_ruleset
from rawpunch.scene import Nat, UnsolicitedAnswer

Verdict = Literal["ok", "missing", "without"]
"""ok; missing: the lab cannot do without; without: the lab does without, less well."""

_PACKAGES: Final = {"ip": "iproute2", "nft": "nftables"}
_OPTIONAL: Final = {
    "iptables": ("iptables", "the delay line's queue rule, where nft has none"),
    "tc": ("iproute2", "netem delays, where the kernel has them"),
    "conntrack": ("conntrack", "looking into a NAT by hand: rawpunch lab exec natA conntrack -L"),
    "tcpdump": ("tcpdump", "capturing by hand: rawpunch lab exec core tcpdump -i a"),
}
_SWITCHES: Final = {
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
    "kernel/unprivileged_userns_clone": ("0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
    "user/max_user_namespaces": ("0", "sudo sysctl -w user.max_user_namespaces=10000"),
}
_QUEUE_MEND: Final = "sudo apt install iptables, or use a kernel with sch_netem or nfnetlink_queue"
_ENOUGH_OCTETS: Final = 1 << 30
_CROSSING_SINCE: Final = (6, 12)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    name: str
    verdict: Verdict
    said: str
    mend: str = ""


def examine(data: Path) -> Iterator[Finding]:
    """Examine this machine, cheapest first.

    Args:
        data: the folder that runs are written to.
    """
    yield Finding("python", "ok", f"{platform.python_version()} on Linux {features.kernel_release()}")
    yield from _namespaces()
    for name, package in _PACKAGES.items():
        path = features.tool(name)
        yield Finding(name, "ok", path) if path else Finding(name, "missing", "not installed", f"sudo apt install {package}")
    yield _rules()
    yield from _delays()
    yield _ring()
    yield _crossing()
    for name, (package, purpose) in _OPTIONAL.items():
        path = features.tool(name)
        yield Finding(name, "ok", path) if path else Finding(name, "without", f"for {purpose}", f"sudo apt install {package}")
    yield _priority()
    yield _space(data)
    yield _standing()


def able(findings: list[Finding]) -> bool:
    """Whether a lab can be built on this machine."""
    return all(finding.verdict != "missing" for finding in findings)


def _namespaces() -> Iterator[Finding]:
    rootless, root = features.user_namespaces(), features.root_namespaces()
    if not rootless:
        yield Finding("namespaces", "ok", "rootless, by user namespaces")
    elif not root:
        yield Finding("namespaces", "ok", f"as root, because user namespaces do not work here ({rootless})")
    else:
        yield Finding("namespaces", "missing", f"as this user: {rootless}; as root: {root}", _switch() or "run as root")


def _switch() -> str:
    """The sysctl that forbids user namespaces, as the command that allows them."""
    for name, (forbidding, mend) in _SWITCHES.items():
        path = Path("/proc/sys") / name
        if path.is_file() and path.read_text(encoding="ascii").strip() == forbidding:
            return mend
    return ""


def _rules() -> Finding:
    if not features.tool("nft"):
        return Finding("nat rules", "missing", "nft is not installed", "sudo apt install nftables")
    nft = str(features.tool("nft"))
    rules = [nat_ruleset(Nat(unsolicited=answer)) for answer in UnsolicitedAnswer]
    said = features.in_scratch_network([nft, "-f", "-"], "".join([*rules, core_ruleset()]))
    if said:
        return Finding("nat rules", "missing", said.splitlines()[0], "use a kernel with nf_tables, nft_masq and nft_reject")
    return Finding("nat rules", "ok", "masquerade, and all answers to an unsolicited SYN")


def _delays() -> Iterator[Finding]:
    ways = {name: features.without_delay_way(name) for name in features.DELAY_WAYS}
    chosen = next((name for name, reason in ways.items() if not reason), None)
    for name, reason in ways.items():
        if name == chosen:
            yield Finding(f"delay: {name}", "ok", "used")
        elif not reason:
            yield Finding(f"delay: {name}", "ok", "works, not needed")
        else:
            yield Finding(
                f"delay: {name}", "without" if chosen else "missing", reason.splitlines()[0], "" if chosen else _QUEUE_MEND
            )


def _ring() -> Finding:
    def attempt() -> None:
        Ring("lo").close()

    said = features.as_in_a_lab(attempt)
    return Finding("capture ring", "missing", said, "allow packet sockets") if said else Finding("capture ring", "ok", "works")


def _crossing() -> Finding:
    version = tuple(int(part) for part in features.kernel_release().split("-")[0].split(".")[:2])
    if version >= _CROSSING_SINCE:
        return Finding("crossing SYN-ACKs", "ok", "complete the open on this kernel")
    return Finding("crossing SYN-ACKs", "without", "are dropped before Linux 6.12; a challenge ACK completes the open instead")


def _priority() -> Finding:
    try:
        before = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        os.sched_setscheduler(0, *before)
    except PermissionError:
        return Finding("real-time priority", "without", "delays are some 40 us less exact at the median")
    return Finding("real-time priority", "ok", "for a lab as root")


def _space(data: Path) -> Finding:
    folder = next(parent for parent in (data.resolve(), *data.resolve().parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    said = f"{free / 1e9:.1f} GB free for {data}"
    return (
        Finding("disk", "ok", said)
        if free > _ENOUGH_OCTETS
        else Finding("disk", "without", said, "make room, or set RAWPUNCH_DATA")
    )


def _standing() -> Finding:
    try:
        lab = standing.current()
    except RawpunchError as error:
        return Finding("standing lab", "without", error.what, error.todo)
    return Finding("standing lab", "ok", f"up, keeper {lab.pid}" if lab else "none", "rawpunch lab down" if lab else "")
