"""Register at a rendezvous server: the first thing that a punch says, with all that the peer is to know of us."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rawpunch.clock import now_ns
from rawpunch.errors import BadParameter, Malformed, PartialData
from rawpunch.live.rendezvous_client import RendezvousClient
from rawpunch.punch.consent import Consent
from rawpunch.punch.proof import NONCE_OCTETS, key_of
from rawpunch.punch.rendezvous import RTT_AXIS, Finding, Register, Registered, room_name
from rawpunch.units import SECOND
from rawpunch.wire.endpoint import Endpoint

_SAMPLES: Final = 6
"""Mappings that are looked at before, where the next one is to be foretold."""
_KEPT_DETAILS: Final = ("candidates", "stride", "band", "addresses", "held", "refused", "lived")
_UNFORETOLD: Final = {"random", "preserving"}


@dataclass(frozen=True, slots=True)
class Me:
    """What a peer brings."""

    token: str
    local: Endpoint
    findings: Mapping[str, Finding] = field(default_factory=dict)
    """Of a probe of its NAT, by axis."""
    wait_s: float = 60.0
    """How long to wait for the other one."""
    consent: Consent | None = None
    """To be sprayed, if the plan has that."""
    seen: list[int] = field(default_factory=list)
    """External ports that our NAT allocated after that of the connection to the server, the last one last."""
    nonce: bytes = field(default_factory=lambda: os.urandom(NONCE_OCTETS))
    """For the proof."""


def finding_of(document: Mapping[str, Any]) -> Finding:
    """What a plan needs of a finding in a probe's report.

    Raises:
        BadParameter: it is none.
    """
    try:
        detail = {key: value for key, value in (document.get("detail") or {}).items() if key in _KEPT_DETAILS}
        return Finding.of_document({"class": document.get("class"), "detail": detail, "status": document.get("status")})
    except (Malformed, AttributeError) as error:
        why = error.why if isinstance(error, Malformed) else str(error)
        raise BadParameter("that is no finding of a probe", why=why, todo="probe again") from error


async def register(client: RendezvousClient, me: Me) -> Registered:
    """Enter the token's room, to be introduced to whoever came last, or to who comes next.

    Args:
        client: connected from `me.local`.
        me: what we bring.

    Raises:
        PartialData: the server is gone, or refuses.
    """
    findings = {**me.findings, RTT_AXIS: rtt_finding(client)}
    return await client.ask(
        Register(
            room=room_name(me.token),
            meet=True,
            inside=me.local,
            findings=findings,
            seen=me.seen,
            consent=me.consent,
            nonce=me.nonce.hex(),
        ),
        Registered,
    )


def rtt_finding(client: RendezvousClient) -> Finding:
    """How far away the server is, as a finding."""
    return Finding(detail={"rtt_us": max(client.rtt_ns // 1_000, 1)})


async def samples(server: Endpoint, local: Endpoint, findings: Mapping[str, Finding]) -> list[int]:
    """External ports of a few new mappings, where our NAT gives each destination another one that may be foretold."""
    mapping, ports = (findings.get(axis) for axis in ("mapping", "port_allocation"))
    if mapping is None or mapping.klass in (None, "none", "endpoint_independent"):
        return []
    if ports is None or ports.klass is None or ports.klass in _UNFORETOLD:
        return []
    from rawpunch.live.stun_client import binding  # noqa: PLC0415  few need it

    found = []
    for _ in range(_SAMPLES):
        answer = await binding(server, local=Endpoint(local.address, 0))
        if answer.mapped is not None:
            found.append(answer.mapped.port)
    return found


async def agree(server: Endpoint, local: Endpoint, token: str, packets: int) -> Consent:
    """Our consent to be sprayed at the address that a server sees us at.

    Raises:
        PartialData: the server does not answer.
    """
    from rawpunch.live.stun_client import binding  # noqa: PLC0415  few need it

    answer = await binding(server, local=Endpoint(local.address, 0))
    if answer.mapped is None:
        raise PartialData(f"the rendezvous server {server} does not say which address is ours", todo="try without --accept-spray")
    return Consent.give(key_of(token), answer.mapped.address, packets, now_ns() // SECOND)
