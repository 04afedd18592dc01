"""Connections that raw packets open and the kernel goes on with: nothing is reset, nothing lost, and nothing is left behind."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rawpunch.capture.columns import read_capture
from rawpunch.channel import Channel
from rawpunch.clock import now_ns
from rawpunch.lab.lab import Lab
from rawpunch.scene import EXTERNAL, Scene
from rawpunch.units import MS
from rawpunch.wire.options import Sack, Timestamps, decode_options
from rawpunch.wire.seq import distance

pytestmark = pytest.mark.lab

ONE_WAY_NS = 15 * MS
MEBIBYTE = 1 << 20
TRIES = 5
HOSTS = {"a": "10.1.0.2", "b": "10.2.0.2"}


class Pair:
    """Two hosts behind NATs, each with a worker that does errands."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.hosts = {side: lab.start(f"host{side.upper()}", "tests.live.handover_host:serve", {}) for side in "ab"}
        for channel in self.hosts.values():
            channel.receive()
        self._ports = itertools.count(20_000)
        self._numbers = itertools.count(1)

    def tell(self, side: str, **errand: Any) -> tuple[Channel, int]:
        """Send an errand; the answer is still to be received."""
        number = next(self._numbers)
        self.hosts[side].send(errand | {"number": number})
        return self.hosts[side], number

    def ask(self, side: str, **errand: Any) -> dict[str, Any]:
        """Send an errand and wait for its answer."""
        return self.answer(self.tell(side, **errand))

    def answer(self, told: tuple[Channel, int]) -> dict[str, Any]:
        """The answer to an errand; late ones to errands of a test that failed are passed over."""
        channel, number = told
        while (found := channel.receive()[0]).pop("number", None) != number:
            pass
        assert "failed" not in found, found["failed"]
        return found

    def both(self, **errand: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The same errand for both, at once."""
        channels = [self.tell(side, **errand) for side in "ab"]
        return self.answer(channels[0]), self.answer(channels[1])

    def port(self) -> int:
        """A port that no earlier attempt used."""
        return next(self._ports)

    def ends(self, side: str, port: int) -> dict[str, str]:
        """Whom a side connects to, and from where."""
        other = "b" if side == "a" else "a"
        return {"peer": f"{EXTERNAL[other]}:{port}", "local": f"{HOSTS[side]}:{port}"}

    def connect(self, port: int, methods: tuple[str, str], **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Both connect at once."""
        at = now_ns() + 60 * MS
        channels = [
            self.tell(side, do="connect", **self.ends(side, port), method=method, at=at, **more)
            for side, method in zip("ab", methods, strict=True)
        ]
        return self.answer(channels[0]), self.answer(channels[1])

    def frame(self, path: Path, port: int) -> pd.DataFrame:
        """What was seen at the hosts' devices of a port's packets, since the last call."""
        self.lab.flush(path / "part.pcapng")
        frame = read_capture(path / "part.pcapng")
        return frame[frame.interface.isin(["hostA:eth0", "hostB:eth0"]) & (frame.source_port == port)]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """One lab for all tests of this file."""
    with Lab(Scene.symmetric(ONE_WAY_NS)) as lab:
        lab.record()
        yield Pair(lab)


def _sent(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame.direction == "out"]


def _repeated(frame: pd.DataFrame) -> int:
    """Segments with text that repeat text which had left the same host before."""
    text = _sent(frame)[_sent(frame).payload_length > 0]
    return int(text.duplicated(["interface", "seq"]).sum())


METHODS = [("raw", "raw"), ("raw", "kernel"), ("kernel", "kernel")]


@pytest.mark.parametrize("methods", METHODS, ids="-".join)
def test_a_mebibyte_each_way_without_a_reset_or_a_retransmission(pair: Pair, tmp_path: Path, methods: tuple[str, str]) -> None:
    """Whoever opened it, all octets arrive both ways; at the wire there is no RST and nothing is sent twice.

    A machine that stalls for tens of milliseconds makes any TCP retransmit, so what a stall disturbed is made again.
    """
    seen = []
    for _ in range(TRIES):
        port = pair.port()
        pair.lab.flush(None)
        a, b = pair.connect(port, methods)
        assert (a["method"], b["method"]) == methods
        info_a, info_b = pair.both(do="info", port=port)
        talked_a, talked_b = pair.both(do="exchange", port=port, count=MEBIBYTE)
        assert (talked_a["came"], talked_b["came"]) == (talked_b["sent"], talked_a["sent"])
        after = pair.both(do="info", port=port)
        pair.both(do="close", port=port)
        time.sleep(4 * ONE_WAY_NS / 1e9)
        frame = pair.frame(tmp_path, port)
        assert not frame.kind.str.startswith("RST").any()
        for info, other in ((info_a, info_b), (info_b, info_a)):
            assert info["timestamps"]
            assert info["sack"]
            assert (info["send_shift"], info["receive_shift"]) == (other["receive_shift"], other["send_shift"])
            assert info["send_mss"] == 1448
        seen.append((_repeated(frame), after[0]["retransmissions"], after[1]["retransmissions"]))
        if seen[-1] == (0, 0, 0):
            return
    pytest.fail(f"retransmissions in {TRIES} tries of {TRIES}: {seen}")


SETTINGS = [
    {"tcp_timestamps": "0"},
    {"tcp_sack": "0"},
    {"tcp_window_scaling": "0"},
    {"tcp_timestamps": "0", "tcp_sack": "0", "tcp_window_scaling": "0"},
]


@pytest.mark.parametrize("changed", SETTINGS, ids=" ".join)
def test_the_socket_has_the_options_that_were_negotiated(pair: Pair, tmp_path: Path, changed: dict[str, str]) -> None:
    """What one side's settings leave out of its SYN is off at both ends, the rest is on, and data goes by it.

    Without window scaling the other end is a raw one too: at a crossing, Linux (6.18) goes on scaling its windows although the
    peer's SYN had no such option, so that 64 KB are read as 63 octets. Two kernel sockets show the same.
    """
    port = pair.port()
    pair.lab.flush(None)
    pair.ask("a", do="settings", **changed)
    try:
        pair.connect(port, ("raw", "raw" if "tcp_window_scaling" in changed else "kernel"))
    finally:
        pair.ask("a", do="settings", **dict.fromkeys(changed, "1"))
    infos = pair.both(do="info", port=port)
    for info in infos:
        assert info["timestamps"] is ("tcp_timestamps" not in changed)
        assert info["sack"] is ("tcp_sack" not in changed)
        assert (info["send_shift"] > 0, info["receive_shift"] > 0) == ("tcp_window_scaling" not in changed,) * 2
    talked_a, talked_b = pair.both(do="exchange", port=port, count=MEBIBYTE // 4)
    assert (talked_a["came"], talked_b["came"]) == (talked_b["sent"], talked_a["sent"])
    pair.both(do="close", port=port)
    time.sleep(4 * ONE_WAY_NS / 1e9)
    frame = pair.frame(tmp_path, port)
    assert not frame.kind.str.startswith("RST").any()
    longest = _sent(frame).groupby("interface", observed=True).payload_length.max()
    assert set(longest) == {1460 - 12 * ("tcp_timestamps" not in changed)}


def test_the_clock_of_the_timestamps_goes_on(pair: Pair, tmp_path: Path) -> None:
    """TSval never goes back where the kernel takes over, and what it sends at once echoes the peer's, not zero."""
    port = pair.port()
    pair.lab.flush(None)
    pair.connect(port, ("raw", "raw"), say="first words")
    pair.both(do="exchange", port=port, count=2_000)
    pair.both(do="close", port=port)
    frame = pair.frame(tmp_path, port)
    sent = _sent(frame)[_sent(frame).interface == "hostA:eth0"].sort_values("time_ns")
    stamps = [option for octets in sent.options for option in decode_options(octets) if isinstance(option, Timestamps)]
    assert len(stamps) == len(sent) > 4
    passed_ms = (sent.time_ns.iloc[-1] - sent.time_ns.iloc[0]) / 1e6
    assert all(distance(before.value, after.value) >= 0 for before, after in itertools.pairwise(stamps))
    assert abs(distance(stamps[0].value, stamps[-1].value) - passed_ms) < 5
    assert all(stamp.echo for stamp in stamps[1:])


def test_what_comes_during_the_handover_is_not_lost(pair: Pair, tmp_path: Path) -> None:
    """250 segments follow the SYN-ACK at 25 us each and are never sent again: the socket reads all of it in order, then the FIN.

    The handover is made to last 3 ms, so that half of them come to deaf ears.
    """
    port = pair.port()
    pair.lab.flush(None)
    at = now_ns() + 60 * MS
    peer = pair.tell("b", do="crossing_then", **pair.ends("b", port), what="data", at=at)
    assert pair.ask("a", do="connect", **pair.ends("a", port), method="raw", at=at, deaf_ms=3)["method"] == "raw"
    came = pair.ask("a", do="read", port=port, count=1 << 20)
    heard = pair.answer(peer)
    assert came["came"] == heard["sent"]
    assert "RST" not in {kind.split("-")[0] for kind in heard["heard"]}
    sent = _sent(pair.frame(tmp_path, port))
    answers = sent[sent.interface == "hostA:eth0"]
    assert not answers.kind.str.startswith("RST").any()
    # a SACK would make a kernel peer send again; the one in the opening is the DSACK of the crossing
    sacks = [option for octets in answers.options for option in decode_options(octets) if isinstance(option, Sack)]
    assert len(sacks) <= 2
    pair.ask("a", do="close", port=port)


@pytest.mark.parametrize("what", ["text", "text and fin"])
def test_text_that_came_with_the_opening_ack_is_read(pair: Pair, tmp_path: Path, what: str) -> None:
    """Our handshake took and acknowledged it; the socket has it in its receive queue, and behind it the end if a FIN came."""
    port = pair.port()
    pair.lab.flush(None)
    at = now_ns() + 60 * MS
    peer = pair.tell("b", do="crossing_then", **pair.ends("b", port), what=what, at=at)
    assert pair.ask("a", do="connect", **pair.ends("a", port), method="raw", at=at)["method"] == "raw"
    heard = pair.answer(peer)
    count = 1 << 20 if what == "text and fin" else len(heard["sent"]) // 2
    assert pair.ask("a", do="read", port=port, count=count)["came"] == heard["sent"]
    state = 8 if what == "text and fin" else 1
    assert pair.ask("a", do="info", port=port)["state"] == state
    sent = _sent(pair.frame(tmp_path, port))
    assert not sent.kind.str.startswith("RST").any()
    text_and_fin = len(heard["sent"]) // 2 + (what == "text and fin")
    assert sent[sent.interface == "hostA:eth0"].ack.iloc[-1] == 3_000_000_001 + text_and_fin
    pair.ask("a", do="close", port=port)


def test_a_reset_during_the_handover_is_told(pair: Pair) -> None:
    """A RST right behind the SYN-ACK ends it: by the exception of connect or of the first read, as its instant would have it."""
    pair.ask("a", do="left", port=0)
    port = pair.port()
    at = now_ns() + 60 * MS
    peer = pair.tell("b", do="crossing_then", **pair.ends("b", port), what="rst", at=at)
    found = pair.ask("a", do="connect", **pair.ends("a", port), method="raw", at=at, deaf_ms=3)
    pair.answer(peer)
    if "method" in found:
        found = pair.ask("a", do="read", port=port, count=1)
        pair.ask("a", do="close", port=port)
    assert found["raised"] == "ConnectionResetError"
    assert pair.ask("a", do="left", port=port) == {"states": [], "more_descriptors": 0}


def test_a_lost_last_ack_is_made_good_by_the_kernel_socket(pair: Pair, tmp_path: Path) -> None:
    """The ACK that completes B's opening is lost: B repeats its SYN-ACK a second later, and A's socket acknowledges it."""
    port = pair.port()
    pair.lab.flush(None)
    rule = f"ip saddr {EXTERNAL['a']} tcp flags & (syn | ack) == ack drop"
    table = f"table ip loss {{\n chain c {{\n type filter hook forward priority -300\n {rule}\n }}\n}}\n"
    pair.lab.run("core", ["nft", "-f", "-"], table)
    at = now_ns() + 60 * MS
    late = pair.tell("b", do="connect", **pair.ends("b", port), method="kernel", at=at)
    found = pair.ask("a", do="connect", **pair.ends("a", port), method="raw", at=at + 3 * ONE_WAY_NS)
    assert found["method"] == "raw"
    pair.lab.run("core", ["nft", "delete", "table", "ip", "loss"])
    assert pair.answer(late)["took_ns"] > 900 * MS
    talked_a, talked_b = pair.both(do="exchange", port=port, count=1_000)
    assert (talked_a["came"], talked_b["came"]) == (talked_b["sent"], talked_a["sent"])
    pair.both(do="close", port=port)
    sent = _sent(pair.frame(tmp_path, port))
    assert not sent.kind.str.startswith("RST").any()
    assert (sent[sent.interface == "hostB:eth0"].kind == "SYN-ACK").sum() == 2


def test_nobody_answers(pair: Pair, tmp_path: Path) -> None:
    """It times out when it was told to, has repeated its SYN once after a second, and leaves neither socket nor guard."""
    for method, timeout, sent in (("raw", 1.2, 2), ("kernel", 0.3, 1)):
        pair.ask("a", do="left", port=0)
        port = pair.port()
        pair.lab.flush(None)
        found = pair.ask("a", do="connect", **pair.ends("a", port), method=method, timeout=timeout)
        assert found["raised"] == "TimeoutError"
        assert timeout * 1e9 <= found["took_ns"] < (timeout + 1.3) * 1e9
        assert pair.ask("a", do="left", port=port) == {"states": [], "more_descriptors": 0}
        syns = _sent(pair.frame(tmp_path, port))
        assert list(syns.kind) == ["SYN"] * sent
        assert len(set(syns.seq)) == 1


def test_who_is_refused_is_told_as_by_the_kernel(pair: Pair) -> None:
    """Raw or not, a RST that answers the SYN raises ConnectionRefusedError."""
    for found in pair.ask("a", do="alone", what="refused").values():
        assert (found["raised"], found["errno"]) == ("ConnectionRefusedError", 111)
    assert pair.ask("a", do="left", port=42_008)["states"] == []


def test_a_port_that_another_has_is_not_taken(pair: Pair) -> None:
    """Neither a listener's port nor a connection's is taken over; the message names it."""
    found = pair.ask("a", do="alone", what="taken")
    assert len(found) == 4
    for key, said in found.items():
        assert said["raised"] == "UsageError", key
        assert key.split()[1] in said["text"]
        assert "try: choose another local port" in said["text"]


def test_a_connection_of_ours_on_the_port_goes_on(pair: Pair) -> None:
    """Beside an open connection to a server from the same port, a raw one is opened; both then carry their own data."""
    assert pair.ask("a", do="alone", what="beside_a_connection") == {"old": "old", "new": "new"}


@pytest.mark.parametrize("what", ["without_net_admin", "without_net_raw"])
def test_without_the_rights_it_says_so_or_does_without(pair: Pair, what: str) -> None:
    """`raw` fails with what is missing and what to do, before anything is sent; `auto` goes by the kernel."""
    said = json.loads(pair.ask("a", do="alone", what=what)["said"])
    assert said["raw"]["raised"] == "MachineCannot"
    assert "not permitted" in said["raw"]["text"]
    assert "try: use method kernel" in said["raw"]["text"]
    assert said["auto"]["raised"] == "ConnectionRefusedError", said["auto"]["text"]  # the kernel tried: nobody is there
    assert pair.ask("a", do="left", port=42_013)["states"] == []


def test_a_third_partys_syn_and_garbage_disturb_nothing(pair: Pair) -> None:
    """While our SYN waits for an answer. He gets none from a raw end and a RST from the kernel; then the peer comes through."""
    found = pair.ask("a", do="alone", what="disturbed")
    assert found["raw"] == {"answered": "EAGAIN", "0": True, "1": True}
    assert found["kernel"] == {"answered": "ECONNREFUSED", "0": True, "1": True}
    for port in (42_020, 42_021, 42_030, 42_031):
        left = set(pair.ask("a", do="left", port=port)["states"])
        assert not left & {"01", "02", "0A"}, "nothing listens, is open or opens"


@pytest.mark.skipif(not Path("/proc/sys/net/ipv6").exists(), reason="this kernel has no IPv6")
def test_it_goes_over_ipv6_too(pair: Pair) -> None:
    """On ::1, raw at both ends and raw towards a kernel: a mebibyte each way, in large segments."""
    found = pair.ask("a", do="alone", what="over_ipv6")
    for one, other in (("42060", "42061"), ("42062", "42063")):
        assert found[one]["method"] == "raw"
        assert found[one]["came"] == found[other]["sent"]
        assert found[other]["came"] == found[one]["sent"]
        assert found[one]["count"] == found[other]["count"] == MEBIBYTE
    assert found["42061"]["method"] == "raw"
    assert found["42063"]["method"] == "kernel"
    usual = found["42063"]
    for said in found.values():
        assert all(said[name] == usual[name] for name in ("timestamps", "sack", "scaling", "send_shift", "receive_shift"))
        assert said["send_mss"] > 20_000  # not the 1,208 octets of a connection of which nothing is known


def test_asyncio_has_it_too(pair: Pair) -> None:
    """Two ends in one event loop open a connection raw and talk over streams; a cancelled attempt leaves its port free."""
    talked = pair.ask("a", do="alone", what="both_in_one_loop")["talked"]
    assert talked == [["raw", "from 42002"], ["raw", "from 42001"]]
    assert pair.ask("a", do="alone", what="cancelled") == {}


def test_a_packet_socket_hears_one_flow_only(pair: Pair) -> None:
    """Other ports, other addresses and other protocols than ICMP stay outside."""
    heard = pair.ask("a", do="alone", what="hears_one_flow")["heard"]
    assert [entry for entry in heard if entry[0] == 6] == [[6, 42_010, 42_009]]
    assert [entry[0] for entry in heard if entry[0] != 6] == [1]
