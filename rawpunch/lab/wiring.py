"""A scene turned into what is to be run: namespaces, an `ip` batch, sysctls, rules. Pure; `--dry-run` prints it as it is.

Devices are called as in the drawing in `scene`; a carrier's NAT is the node `carrierA`, between natA and the core. Where a scene
has a delay between host and NAT, their cable is cut in two: `lineA` or `lineB` holds the frames between its devices `in`, towards
the host, and `out`, and has no addresses; both neighbours take it for a cable. None of this is visible outside the lab's own
namespaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rawpunch.errors import BadParameter
from rawpunch.lab.nat_rules import core_ruleset, inexpressible, nat_ruleset, silent_ruleset
from rawpunch.nat.reading import table_of
from rawpunch.scene import EXTERNAL, LAB_HARDWARE, OBSERVERS, SHARED, SIDES, Nat, Scene, Side

NODES: Final = ("hostA", "natA", "core", "natB", "hostB", "obs1", "obs2")
CARRIER: Final = "carrier_a"
"""The carrier's NAT, where the others are called by their side."""
_CARRIER_NODE: Final = "carrierA"


def nodes(scene: Scene) -> tuple[str, ...]:
    """All nodes of a scene."""
    carrier = () if scene.carrier_a is None else (_CARRIER_NODE,)
    return (*NODES, *carrier, *(_line_node(side) for side in SIDES if not scene.inside(side).is_plain))


def _line_node(side: Side) -> str:
    return f"line{side.upper()}"


def places(scene: Scene) -> dict[str, str]:
    """Where NATs are, or could be: side, or `CARRIER` -> node."""
    found = {str(side): f"nat{side.upper()}" for side in SIDES}
    return found if scene.carrier_a is None else found | {CARRIER: _CARRIER_NODE}


def nat_at(scene: Scene, place: str) -> Nat | None:
    """The NAT at one of `places`."""
    if place == CARRIER:
        return scene.carrier_a
    return scene.nat_a if place == "a" else scene.nat_b


def inside_of(scene: Scene, place: str) -> str:
    """The address of a NAT inside."""
    if place == CARRIER:
        return _router(SHARED)
    return _router(scene.host_address("a" if place == "a" else "b"))


def outside_of(scene: Scene, place: str) -> tuple[str, ...]:
    """The addresses of a NAT outside; none where there is no NAT."""
    if place == CARRIER:
        return scene.external_addresses("a")
    return scene.own_addresses("a" if place == "a" else "b")


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


@dataclass(frozen=True, slots=True)
class Line:
    """What holds the frames between a host and its NAT."""

    side: Side
    node: str
    headers: dict[str, str]
    """Device of the line -> the Ethernet header of frames that leave there, in hexadecimal."""
    paths: dict[str, tuple[int, int]]
    """Device that frames leave by -> their delay in ns, and the share of them that is lost, in parts per million."""


def links(scene: Scene) -> list[tuple[Device, Device]]:
    """All links, as the nodes with addresses see them; the first end is the one farther from the core."""
    found: list[tuple[Device, Device]] = []

    def link(left: tuple[str, str, tuple[str, ...]], right: tuple[str, str, tuple[str, ...]]) -> None:
        number = len(found)
        first, second = ((LAB_HARDWARE + bytes([number, end])).hex(":") for end in (2, 1))
        found.append((Device(*left, first), Device(*right, second)))

    for side in SIDES:
        upper = side.upper()
        inside, outside = scene.host_addresses(side), scene.external_addresses(side) or (EXTERNAL[side],)
        link((f"host{upper}", "eth0", tuple(f"{a}/24" for a in inside)), (f"nat{upper}", "in", (f"{_router(inside[0])}/24",)))
        outermost = f"nat{upper}"
        if scene.carrier(side) is not None:
            between = scene.own_addresses(side)
            outermost = _CARRIER_NODE
            link((f"nat{upper}", "out", tuple(f"{a}/24" for a in between)), (outermost, "in", (f"{_router(between[0])}/24",)))
        link((outermost, "out", tuple(f"{a}/24" for a in outside)), ("core", side, (f"{_router(outside[0])}/24",)))
    for number, (name, addresses) in enumerate(OBSERVERS.items(), 1):
        link(
            (name, "eth0", tuple(f"{a}/26" for a in addresses)), ("core", f"o{number}", (f"{_observer_router(addresses[0])}/26",))
        )
    return found


def cables(scene: Scene) -> list[tuple[Device, Device]]:
    """All links as they are made: as `links` says, but with a line in those between host and NAT that take time."""
    found: list[tuple[Device, Device]] = []
    cut = {f"host{side.upper()}": _line_node(side) for side in SIDES if not scene.inside(side).is_plain}
    for number, (left, right) in enumerate(links(scene)):
        node = cut.get(left.node)
        if node is None:
            found.append((left, right))
            continue
        near, far = (
            Device(node, name, (), (LAB_HARDWARE + bytes([number, end])).hex(":")) for name, end in (("in", 3), ("out", 4))
        )
        found += [(left, near), (far, right)]
    return found


def lines(scene: Scene) -> list[Line]:
    """The lines between hosts and NATs; none where these are but cables."""
    found = []
    for side in SIDES:
        path = scene.inside(side)
        if path.is_plain:
            continue
        host, nat = next(link for link in links(scene) if link[0].node == f"host{side.upper()}")
        found.append(
            Line(
                side,
                _line_node(side),
                {"in": _header(host, nat), "out": _header(nat, host)},
                {"in": (path.down_ns, path.loss_ppm), "out": (path.up_ns, path.loss_ppm)},
            )
        )
    return found


def _header(to: Device, sender: Device) -> str:
    """The Ethernet header of IPv4 packets, in hexadecimal."""
    return f"{to.mac}{sender.mac}".replace(":", "") + "0800"


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
        for left, right in cables(scene)
    ]


def node_batch(scene: Scene, node: str) -> list[str]:
    """`ip -batch` lines that configure one node: addresses, neighbours (so that no ARP disturbs a measurement), routes."""
    batch = ["link set dev lo up"]
    for left, right in links(scene):
        for mine, other in ((left, right), (right, left)):
            if mine.node != node:
                continue
            batch += [f"address add {address} dev {mine.name}" for address in mine.addresses]
            batch.append(f"link set dev {mine.name} up")
            batch += [
                f"neighbour add {address.split('/')[0]} lladdr {other.mac} dev {mine.name} nud permanent"
                for address in other.addresses
            ]
            if mine is left:
                batch.append(f"route add default via {right.addresses[0].split('/')[0]}")
    if node == "core":
        for side in SIDES:
            if scene.public_address(side) != EXTERNAL[side]:
                batch += [f"route add {address}/32 via {EXTERNAL[side]}" for address in scene.host_addresses(side)]
    batch += [f"link set dev {device} up" for line in lines(scene) if line.node == node for device in line.paths]
    return batch


def sysctls(node: str) -> dict[str, str]:
    """Settings below /proc/sys/net of a node's own namespace."""
    settings = {"ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1"}
    if node in {"natA", "natB", "core", _CARRIER_NODE}:
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


def made_by(scene: Scene, place: str, wish: str = AUTO) -> str:
    """How the NAT at one of `places` is made, given what the user wishes.

    Raises:
        BadParameter: rules are wished for and cannot be that NAT, or the wish is no way at all.
    """
    nat = nat_at(scene, place)
    reason = inexpressible(nat)
    if wish == AUTO:
        return BOX if reason else RULES
    if wish == RULES and reason:
        raise BadParameter(f"nft rules cannot be {_called(place)}", why=reason, todo="make it as a box")
    if wish == BOX and nat is None:
        raise BadParameter(f"there is no {_called(place)} to be a box")
    if wish in (RULES, BOX) or wish.startswith(PROGRAM):
        return wish
    raise BadParameter(f"{wish!r} is no way to make a NAT", todo=f"{RULES}, {BOX}, {AUTO} or {PROGRAM}PROGRAM")


def _called(place: str) -> str:
    return place if place == CARRIER else f"nat_{place}"


def rules(scene: Scene, made: Mapping[Any, str]) -> dict[str, str]:
    """Nft script for each node that has rules.

    Args:
        scene: the world.
        made: place -> how its NAT is made.
    """
    scripts = {"core": core_ruleset({side: scene.leg(side).loss_ppm for side in SIDES})}
    for place, node in places(scene).items():
        if made[place] == RULES:
            scripts[node] = nat_ruleset(nat_at(scene, place), (outside_of(scene, place) or ("",))[0])
        elif made[place] == BOX:
            scripts[node] = silent_ruleset()
    return scripts


def box_arguments(scene: Scene, place: str, seed: int) -> dict[str, Any]:
    """What `boxes.serve` needs to be the NAT at one of `places`.

    Raises:
        BadParameter: there is no NAT.
    """
    nat = nat_at(scene, place)
    if nat is None:
        raise BadParameter(f"there is no {_called(place)} to be a box")
    node = places(scene)[place]
    headers = {}
    for left, right in links(scene):
        for mine, other in ((left, right), (right, left)):
            if mine.node == node:
                headers["inside" if mine.name == "in" else "outside"] = _header(other, mine)
    return {
        "behavior": table_of(nat.behavior),
        "external": list(outside_of(scene, place)),
        "inside": inside_of(scene, place),
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


def describe(scene: Scene, way: str, made: Mapping[Any, str] | None = None) -> list[str]:
    """Everything as the shell commands that would do it, for `--dry-run` and for the manifest."""
    said = [f"unshare --net  # {node}" for node in nodes(scene)]
    said += [f"ip {line}" for line in link_batch(scene)]
    for node in nodes(scene):
        said += [f"[{node}] sysctl -w net.{path.replace('/', '.')}={value}" for path, value in sysctls(node).items()]
        said += [f"[{node}] ip {line}" for line in node_batch(scene, node)]
    at = places(scene)
    made = {place: made_by(scene, place) for place in at} | {str(place): how for place, how in (made or {}).items()}
    for place, how in made.items():
        if how not in (RULES, BOX):
            said.append(f"[{at[place]}] {how.removeprefix(PROGRAM)}")
        elif how == BOX:
            said.append(f"[{at[place]}] the NAT machine between in and out: {nat_at(scene, place)}")
    for node, text in rules(scene, made).items():
        said += [f"[{node}] nft -f - <<EOF", *text.rstrip().splitlines(), "EOF"]
    for command, text in delay_commands(scene, way):
        said += [f"[core] {' '.join(command)} <<EOF", *text.rstrip().splitlines(), "EOF"]
    if way != "netem":
        said += [f"[core] hold queue {q.queue}: {q.source} -> {q.destination} for {q.delay_ns} ns" for q in delays(scene)]
    for line in lines(scene):
        for device, (delay_ns, loss_ppm) in line.paths.items():
            other = "out" if device == "in" else "in"
            lost = f", and lose {loss_ppm} of a million" if loss_ppm else ""
            said.append(f"[{line.node}] hold frames: {other} -> {device} for {delay_ns} ns{lost}")
    return said
