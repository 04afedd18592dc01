"""A probe of a declared NAT: in the lab, with an observer in obs2 and the probe in hostA, or in the simulator."""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from rawpunch import errors
from rawpunch.channel import Channel, Message
from rawpunch.clock import now_ns
from rawpunch.errors import LabBroken, PartialData, RawpunchError
from rawpunch.lab import wiring
from rawpunch.lab.lab import Lab
from rawpunch.live.probe_log import ProbeLog
from rawpunch.live.probe_run import DEADLINE_S, TIMERS_DEADLINE_S, Probed
from rawpunch.probe.report import Report
from rawpunch.probe.run import Options, probe
from rawpunch.scene import OBSERVERS, Leg, Nat, Scene
from rawpunch.sim.probing import SimGround
from rawpunch.units import SECOND
from rawpunch.wire.codec import encode_packet
from rawpunch.wire.endpoint import Endpoint

PORTS: Final = (3478, 3479)
"""Where the observer of the lab listens."""
_LOOK_NS: Final = SECOND // 2
"""How often to see whether the NAT is still there."""
_SENT: Final = 9
"""Column of packets sent in /proc/net/dev."""
_GRACE_S: Final = 60.0
"""How long after its own deadline a probe's process is waited for."""


def scene_for(nat: Nat | None, *, one_way_ns: int, carrier: Nat | None = None, loss: float = 0.0) -> Scene:
    """A scene with one NAT to be probed.

    Args:
        nat: A's NAT; None for a plain router.
        one_way_ns: delay from the host to the observer, and back.
        carrier: a second NAT in front of it.
        loss: share of the packets that are lost, each way.
    """
    leg = Leg(up_ns=one_way_ns, down_ns=one_way_ns, loss=loss)
    return Scene(nat_a=nat, nat_b=None, carrier_a=carrier, leg_a=leg)


def probe_in_sim(scene: Scene, *, seed: int, options: Options | None = None, capture: Path | None = None) -> Probed:
    """Probe A's NAT in virtual time; the arguments are those of `probe_in_lab`.

    Raises:
        PartialData: the observer cannot be reached, or the capture cannot be written.
    """
    ground = SimGround(scene, seed=seed)
    began_ns = ground.now()
    report = ground.run(probe(ground, options))
    if capture is not None:
        log = ProbeLog()
        for record in ground.records:
            log.add(record.place, record.at_ns, encode_packet(record.packet), outgoing=record.outgoing)
        log.write(capture, f"rawpunch probe in the simulator, seed {seed}")
    return Probed(report, ground.packets, {}, ground.now() - began_ns)


def probe_in_lab(
    scene: Scene,
    *,
    nats: Mapping[Any, str] | None = None,
    seed: int = 0,
    options: Options | None = None,
    capture: Path | None = None,
    rootless: bool | None = None,
    told: Callable[[int], None] = lambda _: None,
) -> Probed:
    """Build the scene, probe A's NAT from hostA, and take the lab down.

    Args:
        scene: what there is.
        nats: how its NATs are made; see `Lab`.
        seed: of the probe's chance, and of NATs that are boxes.
        options: what to ask beyond the usual.
        capture: where to write what was sent and what came.
        rootless: see `Lab`.
        told: called now and then with the number of packets so far.

    Raises:
        MachineCannot: this machine cannot build the lab.
        LabBroken: something in the lab died; a NAT program that ended is named.
        PartialData: the observer cannot be reached through the NAT.
    """
    with Lab(scene, nats=nats, seed=seed, rootless=rootless) as lab:
        observe(lab)
        return probe_from(lab, seed=seed, options=options, capture=capture, told=told)


def observe(lab: Lab, *, addresses: int = 2, raw: bool = True) -> Channel:
    """Start an observer in obs2; it ends with its channel.

    Raises:
        LabBroken: it did not start.
    """
    listening = list(OBSERVERS["obs2"][:addresses])
    channel = lab.start("obs2", "rawpunch.live.observer:serve", {"addresses": listening, "ports": list(PORTS), "raw": raw})
    channel.receive()
    return channel


def probe_from(
    lab: Lab,
    *,
    seed: int = 0,
    options: Options | None = None,
    capture: Path | None = None,
    told: Callable[[int], None] = lambda _: None,
) -> Probed:
    """Probe from hostA of a lab in which an observer runs; the arguments are those of `probe_in_lab`.

    Raises:
        LabBroken: something in the lab died; a NAT program that ended is named.
        PartialData: the observer cannot be reached through the NAT.
    """
    timers = (options or Options()).timers
    channel = lab.start(
        "hostA",
        "rawpunch.live.probe_worker:serve",
        {
            "observer": str(Endpoint(OBSERVERS["obs2"][0], PORTS[0])),
            "insiders": list(lab.scene.host_addresses("a")),
            "seed": seed,
            "timers": timers,
            "capture": str(capture.resolve()) if capture else "",
        },
    )
    end_ns = now_ns() + round(((TIMERS_DEADLINE_S if timers else DEADLINE_S) + _GRACE_S) * SECOND)
    given_up = False
    look_ns = now_ns()
    while True:
        if now_ns() > end_ns:
            raise LabBroken("the probe does not end", why=f"{_GRACE_S:g} s after its deadline it still runs")
        if not given_up and now_ns() >= look_ns:
            look_ns = now_ns() + _LOOK_NS
            broken = _broken(lab)
            if broken is not None:
                given_up = True
                channel.send({"give_up": broken.what, "why": broken.why})
        if not select.select([channel], [], [], _LOOK_NS / SECOND)[0]:
            continue
        message, _ = channel.receive()
        if "report" in message:
            return Probed(Report.model_validate(message["report"]), message["packets"], message["lost"], message["took_ns"])
        if "error" in message:
            raise _error(lab, message)
        told(message["packets"])


def _broken(lab: Lab) -> LabBroken | None:
    try:
        lab.check()
    except LabBroken as error:
        return error
    return None


def _error(lab: Lab, message: Message) -> RawpunchError:
    """What the probe's process could not do, as it said it, with what is known here of the NAT."""
    broken = _broken(lab)
    if broken is not None:
        return broken
    kind: type[RawpunchError] = getattr(errors, message["kind"], PartialData)
    made = lab.describe()["nats"]["a"]
    if not made.startswith(wiring.PROGRAM) or not issubclass(kind, PartialData):
        return kind(message["error"], why=message["why"], todo=message["todo"])
    said = [f"{name} has ended {how}" for name, how in lab.ended_programs().items()] or ["the program runs"]
    out = _left(lab)
    return PartialData(
        f"nothing comes through the NAT program {made.removeprefix(wiring.PROGRAM)!r}",
        why=f"{message['why']}; {said[0]}; {out} packets have left by its outside device",
        todo="see that it forwards between RAWPUNCH_INSIDE_DEVICE and RAWPUNCH_OUTSIDE_DEVICE",
    )


def _left(lab: Lab) -> int:
    """Packets that A's NAT has sent by its outside device."""
    lines = lab.run("natA", ["cat", "/proc/thread-self/net/dev"]).splitlines()
    figures = {name.strip(): rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    return int(figures["out"][_SENT])
