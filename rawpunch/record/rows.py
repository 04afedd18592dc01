"""The row types. They are the schema: Parquet schemas and the column dictionary (data/README.md) are generated from them.

All drivers write these same rows. Times are integer nanoseconds since the Unix epoch on the driver's clock (virtual time in the
simulator); None means "not seen" or "does not apply", never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def column(doc: str, *, unit: str = "") -> Any:
    """A field with its line in the column dictionary; it defaults to None."""
    return field(default=None, metadata={"doc": doc, "unit": unit})


def required(doc: str, *, unit: str = "") -> Any:
    """A field that every row has."""
    return field(metadata={"doc": doc, "unit": unit})


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One try of one pair at one connection. The experiment's factors follow as columns of their own."""

    attempt: str = required("name of the attempt, unique in the run: cell and repeat")
    cell: str = required("the combination of factor levels, as factor=level words")
    repeat: int = required("which repeat of the cell, from 0")
    driver: str = required("who wrote the row")
    end_a: str = required("what made end A")
    end_b: str = required("what made end B")
    outcome: str = required("how the attempt ended, by its cause")
    outcome_a: str | None = column("how it ended at A, as A itself knew it")
    outcome_b: str | None = column("how it ended at B, as B itself knew it")
    cause: str | None = column("the cause in words, with the error number a kernel socket gave")
    decided_by: str | None = column("the packet that decided it, where it was first seen: vantage point # packet number")
    pattern: str = required("wire pattern of the attempt, told from both ends")
    pattern_a: str | None = column("wire pattern at A")
    pattern_b: str | None = column("wire pattern at B")
    local_a: str | None = column("A's own endpoint")
    mapped_a: str | None = column("A's endpoint as seen in the core")
    remote_a: str | None = column("the endpoint A sent to")
    local_b: str | None = column("B's own endpoint")
    mapped_b: str | None = column("B's endpoint as seen in the core")
    remote_b: str | None = column("the endpoint B sent to")
    planned_a_ns: int | None = column("instant planned for A's first SYN", unit="ns")
    planned_b_ns: int | None = column("instant planned for B's first SYN", unit="ns")
    sent_a_ns: int | None = column("A's first SYN left its host's device, by the kernel's time stamp", unit="ns")
    sent_b_ns: int | None = column("B's first SYN left its host's device, by the kernel's time stamp", unit="ns")
    planned_offset_ns: int | None = column("planned start of B minus planned start of A", unit="ns")
    offset_ns: int | None = column("sent_b_ns minus sent_a_ns", unit="ns")
    established_a_ns: int | None = column("A's program knew that it was connected", unit="ns")
    established_b_ns: int | None = column("B's program knew that it was connected", unit="ns")
    connect_a_ns: int | None = column("established_a_ns minus A's first SYN", unit="ns")
    connect_b_ns: int | None = column("established_b_ns minus B's first SYN", unit="ns")
    syn_a: int | None = column("SYNs (without ACK) that left A's host")
    syn_b: int | None = column("SYNs (without ACK) that left B's host")
    syn_ack_a: int | None = column("SYN-ACKs that left A's host")
    syn_ack_b: int | None = column("SYN-ACKs that left B's host")
    syn_retransmissions_a: int | None = column("SYNs of A's host that repeat an earlier one")
    syn_retransmissions_b: int | None = column("SYNs of B's host that repeat an earlier one")
    rst: int | None = column("RSTs that arrived at either host before the attempt ended")
    icmp: int | None = column("ICMP errors that arrived at either host")
    segments: int | None = column("segments seen at the hosts' devices, both directions")
    syn_ack_delay_a_ns: int | None = column("SYN in to SYN-ACK out at A's device", unit="ns")
    syn_ack_delay_b_ns: int | None = column("SYN in to SYN-ACK out at B's device", unit="ns")
    rtt_a_ns: int | None = column("tcpi_rtt of A's kernel socket", unit="ns")
    rtt_b_ns: int | None = column("tcpi_rtt of B's kernel socket", unit="ns")
    segs_out_a: int | None = column("tcpi_segs_out of A's kernel socket")
    segs_out_b: int | None = column("tcpi_segs_out of B's kernel socket")
    segs_in_a: int | None = column("tcpi_segs_in of A's kernel socket")
    segs_in_b: int | None = column("tcpi_segs_in of B's kernel socket")
    dsack_dups_a: int | None = column("tcpi_dsack_dups of A's kernel socket: 1 after a true crossing")
    dsack_dups_b: int | None = column("tcpi_dsack_dups of B's kernel socket: 1 after a true crossing")
    sockets_a: int | None = column("connected TCP sockets of A's host at the attempt's port, as its kernel said before the end")
    sockets_b: int | None = column("connected TCP sockets of B's host at the attempt's port, as its kernel said before the end")
    tries_a: int | None = column("calls of connect() that A's program made until it was connected or gave up", unit="tries")
    tries_b: int | None = column("calls of connect() that B's program made until it was connected or gave up", unit="tries")
    user_octets: int | None = column("user data that arrived at both ends together, after they were introduced", unit="octets")
    server_octets: int | None = column("what the rendezvous server's device sent and got meanwhile, with headers", unit="octets")
    disturbed: bool = required(
        "the machine stalled: a SYN left late, a packet was held too long, or a socket was asked after its peer had closed"
    )
    capture: str | None = column("capture file of the run that holds its packets")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRow:
    """One packet at one vantage point."""

    attempt: str = required("the attempt it belongs to")
    capture: str | None = column("capture file of the run")
    number: int = required("packet number in the capture file, from 1 (Wireshark's frame.number)")
    vantage: str = required("where it was seen: namespace:device")
    time_ns: int = required("kernel time stamp", unit="ns")
    direction: str = required("in or out of that device, as its namespace sees it")
    source_address: str = required("sender's address")
    source_port: int = required("sender's port")
    destination_address: str = required("receiver's address")
    destination_port: int = required("receiver's port")
    kind: str = required("SYN, SYN-ACK, ACK, RST ..., or ICMP type/code")
    flags: int | None = column("TCP control bits; None for ICMP")
    seq: int | None = column("sequence number; of the quoted segment for ICMP")
    ack: int | None = column("acknowledgement number; None without the ACK bit")
    window: int | None = column("window field, unscaled", unit="octets")
    options: str | None = column("TCP options in the toolkit's notation")
    payload_length: int | None = column("payload on the wire", unit="octets")
    ttl: int | None = column("time to live, or hop limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionRow:
    """One state change of a TCP or NAT machine, or a conntrack event."""

    attempt: str = required("the attempt it belongs to")
    machine: str = required("whose state: hostA, hostB, natA, natB")
    time_ns: int = required("when", unit="ns")
    before: str | None = column("state before; None where the source does not say")
    after: str = required("state after")
    rule: str | None = column("row of the handshake table that fired")
    cause: str | None = column("what it fired on")


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingRow:
    """One NAT mapping, as its packets showed it."""

    attempt: str = required("the attempt it belongs to")
    nat: str = required("which NAT")
    internal: str = required("endpoint inside")
    external: str = required("endpoint outside")
    remote: str = required("remote endpoint")
    time_ns: int = required("first packet outside", unit="ns")


ROW_TYPES: dict[str, type] = {
    "attempts": AttemptRow,
    "segments": SegmentRow,
    "transitions": TransitionRow,
    "mappings": MappingRow,
}
"""Table name -> row type."""
