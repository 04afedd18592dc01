"""A scene becomes commands: the lab's wiring is pure and can be read before anything is touched."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from rawpunch.errors import BadParameter, Unreadable
from rawpunch.lab import wiring
from rawpunch.lab.nat_rules import nat_ruleset
from rawpunch.scene import SIDES, Inside, Leg, Nat, Scene, UnsolicitedAnswer
from rawpunch.units import MS


def test_every_node_is_linked_and_both_ends_share_a_prefix() -> None:
    """No link joins two different networks, and every node has one."""
    scene = Scene()
    linked = set()
    for left, right in wiring.links(scene):
        networks = {ipaddress.ip_interface(address).network for end in (left, right) for address in end.addresses}
        assert len(networks) == 1
        linked |= {left.node, right.node}
    assert linked == set(wiring.NODES)


def test_addresses_are_unique() -> None:
    """No address and no MAC is given twice."""
    ends = [end for link in wiring.links(Scene()) for end in link]
    addresses = [address for end in ends for address in end.addresses]
    assert len(set(addresses)) == len(addresses)
    assert len({end.mac for end in ends}) == len(ends)


def test_hosts_are_private_behind_a_nat_and_public_without() -> None:
    """Without a NAT the far host must be able to answer, so the host's address is routed in the core."""
    scene = Scene(nat_a=None)
    assert ipaddress.ip_address(scene.host_address("b")).is_private
    assert scene.public_address("a") == scene.host_address("a") == "198.18.1.2"
    assert any("198.18.1.2/32" in line for line in wiring.node_batch(scene, "core"))
    assert "masquerade" not in nat_ruleset(None)


def test_delays_add_up_to_the_declared_legs() -> None:
    """What a packet is held is its sender's way up plus its receiver's way down; observers add nothing."""
    scene = Scene(leg_a=Leg(up_ns=1 * MS, down_ns=2 * MS), leg_b=Leg(up_ns=4 * MS, down_ns=8 * MS))
    held = {(rule.source, rule.destination): rule.delay_ns for rule in wiring.delays(scene)}
    assert held["a", "b"] == 9 * MS
    assert held["b", "a"] == 6 * MS
    assert held["a", "o1"] == 1 * MS
    assert held["o2", "b"] == 8 * MS
    assert scene.one_way_ns == (9 * MS, 6 * MS)


def test_a_delay_inside_cuts_the_cable_and_nothing_else() -> None:
    """Both halves are veth pairs with hardware addresses of their own; addresses, neighbours and routes are as without."""
    plain, scene = Scene(), Scene(inside_b=Inside(down_ns=MS))
    assert wiring.links(scene) == wiring.links(plain) == wiring.cables(plain)
    assert wiring.nodes(scene) == (*wiring.nodes(plain), "lineB")
    ends = [(end.node, end.name) for cable in wiring.cables(scene) for end in cable]
    assert {"lineB"} == {node for node, _ in ends} - {end.node for link in wiring.links(plain) for end in link}
    assert len(set(ends)) == len(ends) == 2 * (len(wiring.links(plain)) + 1)
    assert len({end.mac for cable in wiring.cables(scene) for end in cable}) == len(ends)
    for node in wiring.nodes(plain):
        assert wiring.node_batch(scene, node) == wiring.node_batch(plain, node)
    assert wiring.node_batch(scene, "lineB") == [f"link set dev {name} up" for name in ("lo", "in", "out")]
    made = dict.fromkeys(SIDES, wiring.RULES)
    assert wiring.rules(scene, made) == wiring.rules(plain, made)


def test_a_line_sends_on_what_it_took_in_as_it_was() -> None:
    """Each way with its delay, and with the hardware addresses of host and NAT; no line where a scene has no inside."""
    assert wiring.lines(Scene()) == []
    scene = Scene(inside_a=Inside(up_ns=5, down_ns=7, loss=0.25))
    (line,) = wiring.lines(scene)
    assert (line.side, line.node) == ("a", "lineA")
    assert line.paths == {"out": (5, 250_000), "in": (7, 250_000)}
    host, nat = next(link for link in wiring.links(scene) if link[0].node == "hostA")
    assert line.headers["out"] == f"{nat.mac}{host.mac}".replace(":", "") + "0800"
    assert line.headers["in"] == f"{host.mac}{nat.mac}".replace(":", "") + "0800"


def test_the_way_of_a_packet_has_its_stops() -> None:
    """At both NATs and at the far host; without an inside there is but one that is not at once."""
    scene = Scene.symmetric(20 * MS, inside_ns=30 * MS)
    assert scene.stops_ns == ((30 * MS, 50 * MS, 80 * MS),) * 2
    assert (scene.one_way_ns, scene.nat_to_nat_ns) == ((80 * MS,) * 2, (20 * MS,) * 2)
    assert Scene.symmetric(20 * MS).stops_ns == ((0, 20 * MS),) * 2


def test_a_second_inside_host_is_reached_as_the_first() -> None:
    """Its address is on the same link, its neighbours know it, and without a NAT the core routes to it."""
    for scene in (Scene(), Scene(nat_a=None)):
        first, second = scene.host_addresses("a")
        assert first == scene.host_address("a") != second
        assert f"address add {second}/24 dev eth0" in wiring.node_batch(scene, "hostA")
        assert any(line.startswith(f"neighbour add {second} ") for line in wiring.node_batch(scene, "natA"))
        assert any(f"{second}/32" in line for line in wiring.node_batch(scene, "core")) == (scene.nat_a is None)


def test_a_leg_loses_its_share_each_way() -> None:
    """Only the legs that lose packets have rules for it, before the delay line takes the packets."""
    lossy = Scene(leg_a=Leg(loss=0.1))
    made = dict.fromkeys(SIDES, wiring.RULES)
    said = [line.split() for line in wiring.rules(lossy, made)["core"].splitlines() if "numgen" in line]
    assert [(line[0], line[1], line[line.index("<") + 1]) for line in said] == [
        ("iifname", '"a"', "100000"),
        ("oifname", '"a"', "100000"),
    ]
    assert "numgen" not in wiring.rules(Scene(), made)["core"]


@pytest.mark.parametrize("way", ["netem", "nft-queue", "iptables-queue"])
def test_every_way_of_delaying_covers_every_pair(way: str) -> None:
    """Each pair of devices that has a delay appears in the commands of each way."""
    scene = Scene()
    text = "\n".join(said for _, said in wiring.delay_commands(scene, way))
    rules = wiring.delays(scene)
    assert len({rule.queue for rule in rules}) == len(rules)
    needle = {"netem": "netem delay", "nft-queue": "queue num", "iptables-queue": "--queue-num"}[way]
    assert text.count(needle) == len(rules)


def test_each_answer_is_on_input_and_on_forward() -> None:
    """An unsolicited SYN may be for the NAT's own address or for an inside one."""
    for answer, words in {
        UnsolicitedAnswer.DROP: "drop",
        UnsolicitedAnswer.RST: "tcp reset",
        UnsolicitedAnswer.ICMP: "admin-prohibited",
        UnsolicitedAnswer.STACK: "accept",
    }.items():
        lines = [line for line in nat_ruleset(Nat(unsolicited=answer)).splitlines() if "name unsolicited" in line]
        assert len(lines) == 2
        assert all(line.endswith(words) for line in lines)


def test_the_description_names_every_rule_and_device() -> None:
    """`--dry-run` shows all that would be done."""
    away = "\n".join(wiring.describe(Scene(inside_a=Inside(up_ns=9, loss=0.5)), "netem"))
    assert "[lineA] hold frames: in -> out for 9 ns, and lose 500000 of a million" in away
    assert "unshare --net  # lineA" in away
    said = "\n".join(wiring.describe(Scene(), "iptables-queue"))
    assert "line" not in said.replace("iptables", "")
    for word in ("unshare --net  # core", "masquerade", "NFQUEUE", "ip_forward=1", "private_leaks", "route add default"):
        assert word in said


def test_scene_files_are_strict(tmp_path: Path) -> None:
    """An unknown field, a negative delay, a missing file and a file that is not TOML are told apart."""
    folder = tmp_path
    good = folder / "good.toml"
    good.write_text('[nat_a]\nunsolicited = "rst"\n[leg_a]\nup_ns = 5\n', encoding="utf-8")
    assert Scene.read(good).nat_a == Nat(unsolicited=UnsolicitedAnswer.RST)
    for text in (
        "[nat_a]\nunsolicitd = 1\n",
        "[leg_a]\nup_ns = -1\n",
        "[inside_a]\nup_ns = -1\n",
        "[inside_b]\ndown_ns = 0.5\n",
        "[inside_b]\nloss = 2\n",
        "[inside_b]\nup = 5\n",
        "inside_a = 5\n",
    ):
        good.write_text(text, encoding="utf-8")
        with pytest.raises(BadParameter, match="not valid"):
            Scene.read(good)
    good.write_text("[inside_a]\nup_ns = 5\n", encoding="utf-8")
    assert Scene.read(good).inside_a == Inside(up_ns=5, down_ns=0)
    good.write_text("= nothing", encoding="utf-8")
    with pytest.raises(Unreadable):
        Scene.read(good)
    with pytest.raises(Unreadable):
        Scene.read(folder / "absent.toml")
