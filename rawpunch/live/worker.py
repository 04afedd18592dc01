"""The live loop of one host: it launches ends at their instants and feeds them packets and deadlines.

One thread, one select. Between launches it sleeps; from half a millisecond before a launch it spins, still answering packets
until shortly before the instant. What the ends report goes to whoever started the loop.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import os
import select
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from rawpunch.channel import Channel, Message
from rawpunch.clock import SPIN_NS, be_punctual, now_ns, spin_until
from rawpunch.errors import Malformed, RawpunchError, UsageError
from rawpunch.live.end import Order, Scheduler
from rawpunch.live.foreign_stack import ForeignStack, StackEnd
from rawpunch.live.handover_end import HandoverEnd
from rawpunch.live.kernel_end import KernelEnd
from rawpunch.live.listening_end import ListeningEnd
from rawpunch.live.prober_end import ProberEnd
from rawpunch.live.raw_end import RawEnd
from rawpunch.live.rehearsal import Rehearsal
from rawpunch.live.replay_end import ReplayEnd
from rawpunch.live.sockets import RawPort
from rawpunch.live.udp_end import UdpEnd
from rawpunch.replay.part import Part
from rawpunch.units import MS, SECOND, US
from rawpunch.wire.codec import decode
from rawpunch.wire.endpoint import Endpoint
from rawpunch.wire.packets import craft
from rawpunch.wire.segment import Segment

_DEAF_NS: Final = 80 * US
"""From here to a launch nothing else is done."""
_ROOM_NS: Final = 350 * US
"""A launch that is at least this far away leaves room to rehearse it whole."""
_WARM_NS: Final = 200 * US
"""When to touch the network's code before a launch, so that it is in the caches."""
_REHEARSE_NS: Final = 1 * MS
"""How often the way of an answer is gone through while one is awaited: cold code takes four times as long."""
_HOLD_NS: Final = 300 * MS
"""How long a guard stays after its attempt: until the other end's last packets have come."""

SocketEnd = KernelEnd | ListeningEnd | UdpEnd
"""An end whose kernel decides."""
CraftedEnd = RawEnd | ReplayEnd | ProberEnd
"""An end that makes its own packets."""
AnyEnd = SocketEnd | CraftedEnd | StackEnd


class Worker:
    """All ends of one host.

    Args:
        channel: to whoever gives orders.
        port: the raw sockets of crafted ends; by default they are opened here.

    Raises:
        MachineCannot: no right to open raw sockets.
    """

    def __init__(self, channel: Channel, port: RawPort | None = None) -> None:
        self.channel = channel
        self.port = port or RawPort()
        self.ends: dict[str, AnyEnd] = {}
        """All ends that are not finished, by attempt."""
        self.launches: list[tuple[int, int, AnyEnd]] = []
        self.under_way: dict[str, AnyEnd] = {}
        """Those that have been launched."""
        self.undecided: dict[int, SocketEnd] = {}
        """Socket ends that wait for the kernel's decision, by descriptor."""
        self.raw_by_local: dict[Endpoint, CraftedEnd] = {}
        self.held: list[tuple[int, int, AnyEnd]] = []
        self.stacks: dict[str, ForeignStack] = {}
        """Programs that are stacks, by their command."""
        self._own = [channel.fileno(), self.port.fileno()]
        self._order = itertools.count()
        self._rehearsal = Rehearsal()
        self._rehearsed_ns = 0

    # --- the loop ---

    def run(self) -> None:
        """Serve until the channel closes."""
        try:
            self._serve()
        finally:
            for stack in self.stacks.values():
                stack.close()

    def _serve(self) -> None:
        while True:
            if self._launch_is_near():
                self._launch()
                continue
            rest = min(self._deadlines()) - now_ns()
            listening = [descriptor for descriptor, end in self.undecided.items() if not isinstance(end, KernelEnd)]
            connecting = [descriptor for descriptor in self.undecided if descriptor not in listening]
            readable, writable, _ = select.select([*self._own, *listening], connecting, [], max(rest, 0) / 1e9)
            if self._launch_is_near():
                continue  # whatever has come can wait half a millisecond, the launch cannot
            now = now_ns()
            for descriptor in (*writable, *(found for found in readable if found in listening)):
                end = self.undecided[descriptor]
                self._after(end, end.ready, now)
            for stack in self.stacks.values():
                if stack.fileno() in readable:
                    self._hear(stack)
            if self.port.fileno() in readable:
                self._receive()
            if self.channel.fileno() in readable:
                try:
                    message, _ = self.channel.receive()
                except RawpunchError:
                    return
                self._obey(message)
            self._expire()
            if not readable:
                self._rehearsed_ns = now
                self._rehearse()

    def _launch_is_near(self) -> bool:
        return bool(self.launches) and self.launches[0][0] - now_ns() <= SPIN_NS

    def _answer_is_due(self) -> bool:
        return any(end.undecided for end in self.under_way.values() if isinstance(end, CraftedEnd))

    def _rehearse(self) -> None:
        """Go through the ways of the answers that are awaited."""
        awaited = {type(end) for end in self.under_way.values() if end.undecided}
        if awaited & {RawEnd, HandoverEnd}:
            self._rehearsal.answer()
        if ReplayEnd in awaited:
            self._rehearsal.reply()

    def _deadlines(self) -> Iterator[int]:
        yield now_ns() + (_REHEARSE_NS if self._answer_is_due() else SECOND)
        if self.launches:
            yield self.launches[0][0] - SPIN_NS
        if self.held:
            yield self.held[0][0]
        for end in self.under_way.values():
            if end.deadline is not None:
                yield end.deadline
            if isinstance(end, ReplayEnd) and (ready_ns := end.ready_ns) is not None and ready_ns > self._rehearsed_ns:
                yield ready_ns

    def _launch(self) -> None:
        at_ns, _, end = heapq.heappop(self.launches)
        self.under_way[end.order.attempt] = end
        if isinstance(end, SocketEnd):
            self.undecided[end.fileno()] = end
        if end.order.scheduler != Scheduler.SPIN:
            _wait(at_ns, end.order.scheduler)
            self._after(end, end.launch, at_ns)
            return
        if at_ns - now_ns() > _ROOM_NS:
            self._rehearsal.connect()
        warmed = False
        while (rest := at_ns - now_ns()) > _DEAF_NS:
            self._receive()
            if rest < _WARM_NS and not warmed:
                warmed = True
                self._rehearsal.send()
        spin_until(at_ns)
        self._after(end, end.launch, at_ns)

    def _receive(self) -> None:
        for data in self.port.receive():
            try:
                packet = decode(data)
            except Malformed:
                continue  # other traffic of the host
            local = packet.destination if isinstance(packet, Segment) else packet.quoted.source
            end = self.raw_by_local.get(local)
            if end is not None:
                self._after(end, partial(end.arrived, packet), now_ns())

    def _hear(self, stack: ForeignStack) -> None:
        for end, word, rest in stack.receive():
            self._after(end, partial(end.told, word, rest), now_ns())
        if stack.is_over:
            self._own.remove(stack.fileno())

    def _expire(self) -> None:
        now = now_ns()
        for end in list(self.under_way.values()):
            if end.deadline is not None and end.deadline <= now:
                self._after(end, end.wake, now)
        while self.held and self.held[0][0] <= now:
            _, _, end = heapq.heappop(self.held)
            self._release(end)

    def _after(self, end: AnyEnd, action: Callable[[int], None], now: int) -> None:
        """Let an end do something, and tell the owner if that concluded it."""
        undecided = end.undecided
        descriptor = end.fileno() if isinstance(end, SocketEnd) else -1
        try:
            action(now)
        except (RawpunchError, OSError) as error:
            self._not_measured(end.order.attempt, error)
            self._forget(end, descriptor)
            self._release(end)
            return
        if undecided and not end.undecided:
            self.undecided.pop(descriptor, None)
            report = end.report
            self.channel.send({"attempt": report.attempt, "ending": report.ending, "at_ns": report.at_ns, "cause": report.cause})

    # --- what the owner can say ---

    def _obey(self, message: Message) -> None:
        if "finish" in message:
            self._finish(message["finish"])
            return
        if "stack" in message:
            self.channel.send(self._start(message["stack"], message["environment"]))
            return
        order = Order.from_message(message["order"])
        try:
            end = self._end(order)
        except RawpunchError as error:
            self._not_measured(order.attempt, error)
            return
        self.ends[order.attempt] = end
        if isinstance(end, CraftedEnd):
            self.raw_by_local[order.local] = end
        heapq.heappush(self.launches, (order.at_ns, next(self._order), end))

    def _start(self, command: str, environment: dict[str, str]) -> Message:
        """Start a program that is a stack, if it does not run already."""
        stack = self.stacks.get(command)
        if stack is not None:
            if not stack.is_over:
                return {"stack": command}
            stack.close()
        try:
            self.stacks[command] = ForeignStack(command, environment)
        except RawpunchError as error:
            return {"error": error.what, "why": error.why, "todo": error.todo}
        self._own.append(self.stacks[command].fileno())
        return {"stack": command}

    def _stack(self, command: str) -> ForeignStack:
        if command not in self.stacks:
            raise UsageError(f"the program {command!r} was not started")
        return self.stacks[command]

    def _end(self, order: Order) -> AnyEnd:
        match order.kind:
            case "stack":
                return StackEnd(order, self._stack(order.script))
            case "kernel":
                return KernelEnd(order)
            case "listening":
                return ListeningEnd(order, self.port)
            case "handover":
                return HandoverEnd(order, self.port, hear=self._receive, craft=craft)
            case "replay":
                return ReplayEnd(order, Part.read(Path(order.script)), self.port)
            case "prober":
                return ProberEnd(order, self.port)
            case "udp":
                return UdpEnd(order)
        return RawEnd(order, self.port, craft=craft)

    def _finish(self, attempt: str) -> None:
        end = self.ends.get(attempt)
        if end is None:
            self.channel.send({"attempt": attempt, "finished": True, "transitions": [], "evidence": {}})
            return
        self._forget(end, end.fileno() if isinstance(end, SocketEnd) else -1)
        end.finish(now_ns())
        report = end.report
        self.channel.send({"attempt": attempt, "finished": True, "transitions": report.transitions, "evidence": report.evidence})
        heapq.heappush(self.held, (now_ns() + _HOLD_NS, next(self._order), end))
        if not self.launches:
            gc.collect(0)

    def _not_measured(self, attempt: str, error: Exception) -> None:
        cause = f"{error.what} ({error.why})" if isinstance(error, RawpunchError) else str(error)
        self.channel.send({"attempt": attempt, "ending": "", "at_ns": None, "cause": cause})

    def _forget(self, end: AnyEnd, descriptor: int) -> None:
        self.ends.pop(end.order.attempt, None)
        if self.under_way.pop(end.order.attempt, None) is None:
            self.launches = [entry for entry in self.launches if entry[2] is not end]
            heapq.heapify(self.launches)
        self.undecided.pop(descriptor, None)

    def _release(self, end: AnyEnd) -> None:
        end.release()
        self.raw_by_local.pop(end.order.local, None)


def _wait(at_ns: int, scheduler: str) -> None:
    """Wait for an instant less carefully than by spinning."""
    if scheduler == Scheduler.SLEEP:
        time.sleep(max(0, at_ns - now_ns()) / SECOND)
        return
    while (now := now_ns()) < at_ns:
        time.sleep((MS - now % MS) / SECOND)  # the instants themselves lie anywhere in their millisecond


def serve(channel: Channel, cpu: int | None = None) -> None:
    """Entry of a host's worker process, inside the host's network namespace.

    Args:
        channel: to whoever gives orders.
        cpu: the processor to stay on; two hosts that spin for the same instant on one processor would both be late.
    """
    be_punctual()
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    worker = Worker(channel)
    gc.freeze()
    gc.disable()
    channel.send({"ready": True})
    worker.run()
