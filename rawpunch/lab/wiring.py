"""A scene turned into what is to be run: namespaces, an `ip` batch, sysctls, rules. Pure; `--dry-run` prints it as it is.

Devices are called as in the drawing in `scene`. None of this is visible outside the lab's own namespaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rawpunch.errors import BadParameter
from rawpunch.lab.nat_rules import core_ruleset, inexpressible, nat_ruleset, silent_ruleset
from rawpunch.nat.reading import table_of
from rawpunch.scene import EXTERNAL, OBSERVERS, SIDES, Scene, Side

NODES: Final = ("hostA", "natA", "core", "natB", "hostB", "obs1", "obs2")


@dataclass(frozen=True, slots=True)
class Device:
    """One end of a link."""

    node: str
    name: str
    addresses: tuple[str, ...]
    """With prefix lengths."""
    mac: str


@dataclass(frozen=True, slots=True)
class QueueRule:
    """Packets forwarded from one device of the core to another are held for a time."""

    queue: int
    source: str
    destination: str
    delay_ns: int


def links(scene: Scene) -> list[tuple[Device, Device]]:
    """All links; the first end is the one farther from the core."""
    found: list[tuple[Device, Device]] = []

    def link(left: tuple[str, str, tuple[str, ...]], right: tuple[str, str, tuple[str, ...]]) -> None:
        number = len(found)
        found.append((Device(*left, f"02:00:00:00:{number:02x}:02"), Device(*right, f"02:00:00:00:{number:02x}:01")))

    for side in SIDES:
        upper = side.upper()
        inside, outside = scene.host_addresses(side), scene.external_addresses(side) or (EXTERNAL[side],)
        link((f"host{upper}", "eth0", tuple(f"{a}/24" for a in inside)), (f"nat{upper}", "in", (f"{_router(inside[0])}/24",)))
        link((f"nat{upper}", "out", tuple(f"{a}/24" for a in outside)), ("core", side, (f"{_router(outside[0])}/24",)))
    for number, (name, addresses) in enumerate(OBSERVERS.items(), 1):
        link(
            (name, "eth0", tuple(f"{a}/26" for a in addresses)), ("core", f"o{number}", (f"{_observer_router(addresses[0])}/26",))
        )
    return found


def _router(address: str) -> str:
    return address.rsplit(".", 1)[0] + ".1"


def _observer_router(address: str) -> str:
    prefix, last = address.rsplit(".", 1)
    return f"{prefix}.{int(last) - 1}"


def link_batch(scene: Scene) -> list[str]:
    """`ip -batch` lines that make all links; `{hostA}` and so on stand for the namespaces."""
    return [
        f"link add dev {left.name} address {left.mac} netns {{{left.node}}} type veth "
        f"peer name {right.name} address {right.mac} netns {{{right.node}}}"
        for left, right in links(scene)
    ]


def node_batch(scene: Scene, node: str) -> list[str]:
    """`ip -batch` lines that configure one node: addresses, neighbours (so that no ARP disturbs a measurement), routes."""
    lines = ["link set dev lo up"]
    for left, right in links(scene):
        for mine, other in ((left, right), (right, left)):
            if mine.node != node:
                continue
            lines += [f"address add {address} dev {mine.name}" for address in mine.addresses]
            lines.append(f"link set dev {mine.name} up")
            lines += [
                f"neighbour add {address.split('/')[0]} lladdr {other.mac} dev {mine.name} nud permanent"
                for address in other.addresses
            ]
            if mine is left:
                lines.append(f"route add default via {right.addresses[0].split('/')[0]}")
    if node == "core":
        for side in SIDES:
            if scene.public_address(side) != EXTERNAL[side]:
                lines += [f"route add {address}/32 via {EXTERNAL[side]}" for address in scene.host_addresses(side)]
    return lines


def sysctls(node: str) -> dict[str, str]:
    """Settings below /proc/sys/net of a node's own namespace."""
    settings = {"ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1"}
    if node in {"natA", "natB", "core"}:
        # the kernel would answer only one ICMP error a second, and several attempts share a NAT
        settings |= {"ipv4/ip_forward": "1", "ipv4/icmp_ratelimit": "0", "ipv4/conf/all/send_redirects": "0"}
    else:
        # an attempt must not start from what an earlier one taught the kernel about the path
        settings |= {"ipv4/tcp_no_metrics_save": "1"}
    return settings


RULES: Final = "nft"
BOX: Final = "box"
AUTO: Final = "auto"
PROGRAM: Final = "cmd:"
"""How a NAT is made: by nft rules, by the NAT machine as a box, by rules where they can be it and else as a box, or by
``cmd:PROGRAM``, any program that is started in the NAT's namespace."""


def made_by(scene: Scene, side: Side, wish: str = AUTO) -> str:
    """How a side's NAT is made, given what the user wishes.

    Raises:
        BadParameter: rules are wished for and cannot be that NAT, or the wish is no way at all.
    """
    nat = scene.nat(side)
    reason = inexpressible(nat)
    if wish == AUTO:
        return BOX if reason else RULES
    if wish == RULES and reason:
        raise BadParameter(f"nft rules cannot be nat_{side}", why=reason, todo="make it as a box")
    if wish == BOX and nat is None:
        raise BadParameter(f"there is no nat_{side} to be a box")
    if wish in (RULES, BOX) or wish.startswith(PROGRAM):
        return wish
    raise BadParameter(f"{wish!r} is no way to make a NAT", todo=f"{RULES}, {BOX}, {AUTO} or {PROGRAM}PROGRAM")


def rules(scene: Scene, made: Mapping[Side, str]) -> dict[str, str]:
    """Nft script for each node that has rules.

    Args:
        scene: the world.
        made: side -> how its NAT is made.
    """
    scripts = {"core": core_ruleset({side: scene.leg(side).loss_ppm for side in SIDES})}
    for side in SIDES:
        node = f"nat{side.upper()}"
        if made[side] == RULES:
            scripts[node] = nat_ruleset(scene.nat(side), EXTERNAL[side])
        elif made[side] == BOX:
            scripts[node] = silent_ruleset()
    return scripts


def box_arguments(scene: Scene, side: Side, seed: int) -> dict[str, Any]:
    """What `boxes.serve` needs to be a side's NAT.

    Raises:
        BadParameter: the side has no NAT.
    """
    nat = scene.nat(side)
    if nat is None:
        raise BadParameter(f"there is no nat_{side} to be a box")
    node = f"nat{side.upper()}"
    headers = {}
    for left, right in links(scene):
        for mine, other in ((left, right), (right, left)):
            if mine.node == node:
                header = f"{other.mac}{mine.mac}".replace(":", "") + "0800"
                headers["inside" if mine.name == "in" else "outside"] = header
    return {
        "behavior": table_of(nat.behavior),
        "external": list(scene.external_addresses(side)),
        "inside": _router(scene.host_address(side)),
        "headers": headers,
        "seed": seed,
    }


def delays(scene: Scene) -> list[QueueRule]:
    """For each pair of the core's devices what is held how long; observers sit at the core without a delay of their own."""
    up = {"a": scene.leg_a.up_ns, "b": scene.leg_b.up_ns}
    down = {"a": scene.leg_a.down_ns, "b": scene.leg_b.down_ns}
    devices = ["a", "b", "o1", "o2"]
    pairs = [(source, destination) for source in devices for destination in devices if {source, destination} & {"a", "b"}]
    return [
        QueueRule(number, source, destination, up.get(source, 0) + down.get(destination, 0))
        for number, (source, destination) in enumerate(pairs)
    ]


def delay_commands(scene: Scene, way: str) -> list[tuple[list[str], str]]:
    """Commands, with what they read from stdin, that put the delay into the core in one of `features.DELAY_WAYS`.

    The queue ways hand every forwarded packet between two devices to a queue of its own; the delay line then knows the delay from
    the queue's number, and a changed delay changes no rule. netem needs the delays themselves.
    """
    queues = delays(scene)
    if way == "iptables-queue":
        lines = [f"-A FORWARD -i {q.source} -o {q.destination} -j NFQUEUE --queue-num {q.queue}" for q in queues]
        return [(["iptables-restore", "--noflush"], "\n".join(["*mangle", "-F FORWARD", *lines, "COMMIT", ""]))]
    if way == "nft-queue":
        lines = [f'    iifname "{q.source}" oifname "{q.destination}" queue num {q.queue}' for q in queues]
        chain = "\n".join(["  chain hold {", "    type filter hook forward priority mangle; policy accept;", *lines, "  }"])
        return [(["nft", "-f", "-"], f"table ip delays {{}}\ndelete table ip delays\ntable ip delays {{\n{chain}\n}}\n")]
    return [(["tc", "-batch", "-"], "\n".join(_netem_lines(queues)) + "\n"), (["nft", "-f", "-"], _netem_marks(queues))]


def _netem_lines(queues: list[QueueRule]) -> Iterator[str]:
    for device in dict.fromkeys(q.destination for q in queues):
        mine = [q for q in queues if q.destination == device]
        # two bands more than delays: band 1 is for what carries no mark
        yield f"qdisc replace dev {device} root handle 1: prio bands {max(2, len(mine) + 1)} priomap {' '.join(['0'] * 16)}"
        for band, q in enumerate(mine, 2):
            yield f"qdisc replace dev {device} parent 1:{band:x} netem delay {q.delay_ns}ns limit 100000"
            yield f"filter replace dev {device} parent 1: protocol ip prio {band} handle {q.queue + 1} fw flowid 1:{band:x}"


def _netem_marks(queues: list[QueueRule]) -> str:
    lines = [f'    iifname "{q.source}" oifname "{q.destination}" meta mark set {q.queue + 1}' for q in queues]
    chain = "\n".join(["  chain mark {", "    type filter hook forward priority mangle; policy accept;", *lines, "  }"])
    return f"table ip delays {{}}\ndelete table ip delays\ntable ip delays {{\n{chain}\n}}\n"


def describe(scene: Scene, way: str, made: Mapping[Side, str] | None = None) -> list[str]:
    """Everything as the shell commands that would do it, for `--dry-run` and for the manifest."""
    lines = [f"unshare --net  # {node}" for node in NODES]
    lines += [f"ip {line}" for line in link_batch(scene)]
    for node in NODES:
        lines += [f"[{node}] sysctl -w net.{path.replace('/', '.')}={value}" for path, value in sysctls(node).items()]
        lines += [f"[{node}] ip {line}" for line in node_batch(scene, node)]
    made = made or {side: made_by(scene, side) for side in SIDES}
    for side, how in made.items():
        if how not in (RULES, BOX):
            lines.append(f"[nat{side.upper()}] {how.removeprefix(PROGRAM)}")
        elif how == BOX:
            lines.append(f"[nat{side.upper()}] the NAT machine between in and out: {scene.nat(side)}")
    for node, text in rules(scene, made).items():
        lines += [f"[{node}] nft -f - <<EOF", *text.rstrip().splitlines(), "EOF"]
    for command, text in delay_commands(scene, way):
        lines += [f"[core] {' '.join(command)} <<EOF", *text.rstrip().splitlines(), "EOF"]
    if way != "netem":
        lines += [f"[core] hold queue {q.queue}: {q.source} -> {q.destination} for {q.delay_ns} ns" for q in delays(scene)]
    return lines
