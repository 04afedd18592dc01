"""The probe: all plans in their order, whatever is missing left out, and the report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from rawpunch.errors import PartialData
from rawpunch.probe import plan_modest as modest
from rawpunch.probe.conversation import told
from rawpunch.probe.facts import Facts
from rawpunch.probe.ground import Ground
from rawpunch.probe.kit import Kit
from rawpunch.probe.plan_contact import contact
from rawpunch.probe.plan_hairpin import hairpin
from rawpunch.probe.plan_inbound import UNSOLICITED, filtering, unsolicited
from rawpunch.probe.plan_mapping import mapping, sharing
from rawpunch.probe.plan_ports import sample_alone, sample_crossed
from rawpunch.probe.plan_sessions import sessions
from rawpunch.probe.plan_table import SHORT_AGES, ages, long_ages, table
from rawpunch.probe.remotes import Remotes, take
from rawpunch.probe.report import Report, report_of
from rawpunch.units import MS, SECOND, format_duration

_WATCH_NS: Final = 250 * MS
"""How often to see whether all is done."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to do beyond the usual."""

    timers: bool = False
    """Whether to wait for timers of minutes and hours."""
    timer_limit_ns: int = 7_500 * SECOND
    """How long to wait for them, or twice that where one falls in between; RFC 5382, REQ-5 asks for 2 h 4 min."""
    deadline_ns: int = 60 * SECOND
    """When to give up, long timers not counted; what was found by then is reported."""


async def probe(ground: Ground, options: Options | None = None) -> Report:
    """Ask everything and conclude.

    It raises nothing for what a network does: an observer that goes away in the middle leaves a report that says so.
    """
    return report_of(await gather(ground, options))


async def gather(ground: Ground, options: Options | None = None) -> Facts:
    """Ask everything; what could not be asked is missing."""
    known = Facts(len(ground.insiders), len(ground.outside.addresses), ground.outside.raw)
    kit = Kit(ground)
    known.openings = kit.openings
    try:
        await _in_time(kit, known, options or Options())
    except PartialData as error:
        known.broken_off = "; ".join(part for part in (error.what, error.why) if part)
    known.loss, known.rtt_ns = kit.loss, kit.rtt_ns
    return known


async def _in_time(kit: Kit, known: Facts, options: Options) -> None:
    """Gather until the deadline.

    Raises:
        PartialData: it has come, or the observer is gone.
    """
    ground, over = kit.ground, [False]
    limit_ns = options.deadline_ns + (3 * options.timer_limit_ns if options.timers else 0)

    async def work() -> None:
        await _gather(kit, known, options)
        over[0] = True
        await ground.sleep(0)

    async def watch() -> None:
        end_ns = ground.now() + limit_ns
        while not over[0]:
            if ground.now() >= end_ns:
                raise PartialData(f"the probe was not done after {format_duration(limit_ns)}")
            await ground.until(lambda: over[0], min(end_ns, ground.now() + _WATCH_NS))

    await ground.together(work(), watch())


async def _gather(kit: Kit, known: Facts, options: Options) -> None:
    if not kit.ground.outside.raw:
        await _modestly(kit, known)
        return
    remotes = await take(kit.ground, UNSOLICITED)
    known.contact = await contact(kit, remotes.first)
    if known.contact.false_answers.came:
        return
    if not known.contact.openings:
        known.broken_off = "no SYN reaches the observer"
        return
    known.samples = await sample_alone(kit, remotes.first)
    known.samples += await sample_crossed(kit, remotes.first)
    known.table = await table(kit, remotes)
    if known.table.came == 0:
        known.broken_off = "the NAT lets no further connections out; its table may be full"
        return
    kit.gently = known.table.short
    await kit.ground.together(_unsolicited(kit, known, remotes), _ages(kit, known, remotes), _quick(kit, known, remotes))
    died = [one.age_ns for one in known.aged if one.control.came and not one.alive.came]
    if died:
        known.aged = await ages(kit, remotes, [age_ns for age_ns in SHORT_AGES if age_ns <= min(died)])
    if options.timers:
        known.aged += await long_ages(kit, remotes, options.timer_limit_ns)


async def _modestly(kit: Kit, known: Facts) -> None:
    """What an observer without raw sockets can help with."""
    remotes = modest.listening(kit)
    if remotes is None:
        known.broken_off = "an observer without raw sockets needs two ports that listen"
        return
    kit.opener = partial(told, kit)
    if len(kit.ground.insiders) > 1:
        await kit.ground.prove(1)
    known.contact = await modest.first_contact(kit, remotes)
    if not known.contact.openings or known.contact.false_answers.came:
        return
    known.samples = await modest.samples(kit, remotes)
    used = frozenset(sample.mapped.port for sample in known.samples if sample.mapped is not None)
    outside = known.contact.openings[0].mapped.address

    async def quick() -> None:
        known.mapped = await mapping(kit, remotes)
        known.filtered = await modest.filtering(kit, remotes)
        known.hairpinned = await hairpin(kit, remotes)
        known.shared = await sharing(kit, remotes)

    async def slow() -> None:
        known.unsolicited = await modest.unsolicited(kit, outside, used)

    await kit.ground.together(slow(), quick())


async def _quick(kit: Kit, known: Facts, remotes: Remotes) -> None:
    known.mapped = await mapping(kit, remotes)
    known.filtered = await filtering(kit, remotes)
    known.sessions = await sessions(kit, remotes)
    if kit.gently:
        await kit.ground.renew()
    known.hairpinned = await hairpin(kit, remotes)
    known.shared = await sharing(kit, remotes)


async def _unsolicited(kit: Kit, known: Facts, remotes: Remotes) -> None:
    if known.contact is not None and known.contact.openings:
        used = frozenset(sample.mapped.port for sample in known.samples if sample.mapped is not None)
        known.unsolicited = await unsolicited(kit, remotes, known.contact.openings[0].mapped.address, used)


async def _ages(kit: Kit, known: Facts, remotes: Remotes) -> None:
    if not kit.gently:
        known.aged = await ages(kit, remotes, SHORT_AGES)
