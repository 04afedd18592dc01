"""How many connections may be tried to a peer's address in a punch, beyond the attempts at its one endpoint.

    loopback and lab                             as many as the plan says
    anybody whom a rendezvous server names       `FEW` connections, in all tries together
    who has agreed by the room's token, and      what it agreed to, at `consent.PER_S`
    whom our own policy file names

The server may lie about who the peer is, so its word alone is worth few. The peer's consent passes the server and cannot be made
there; the policy file is our own owner's word, that this address may be sprayed at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rawpunch.clock import now_ns
from rawpunch.errors import PolicyRefused
from rawpunch.live.confines import is_free
from rawpunch.punch.birthday import Budget
from rawpunch.punch.consent import PER_S, REPEATED, Consent, connections
from rawpunch.units import SECOND
from rawpunch.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from pathlib import Path

FEW: Final = 64
"""Ports that a forecast aims at, at most (`punch.plan`)."""


class Allowance:
    """That of one peer's address.

    Args:
        address: the peer's, as the server told it.
        key: the token's (`proof.key_of`).
        consent: what came with the peer; None if it did not agree.
        policy: our policy file; None for the default one.
    """

    def __init__(self, address: str, key: bytes = b"", consent: Consent | None = None, policy: Path | None = None) -> None:
        self._address = address
        self._key = key
        self._consent = consent
        self._policy = policy
        self._few = FEW
        self._many = connections(consent) if consent is not None else 0

    def take(self, targets: Sequence[Endpoint]) -> int:
        """Take what so many connections need; each target is one's.

        Returns:
            Connections that may be begun in a second.

        Raises:
            PolicyRefused: they may not be begun; nothing is taken.
        """
        if any(target.address != self._address for target in targets):
            raise PolicyRefused("a SYN was for somebody else", why=f"the peer is at {self._address}")
        if is_free(Endpoint(self._address, 1)):
            return Budget().per_s
        if len(targets) <= self._few:
            self._few -= len(targets)
            return PER_S // REPEATED
        self._check(targets)
        self._many -= len(targets)
        return PER_S // REPEATED

    def _check(self, targets: Sequence[Endpoint]) -> None:
        from rawpunch.live.policy import default_path, entry_for, read_policy  # noqa: PLC0415  slow to come, and seldom needed

        what = f"{len(targets)} SYNs to {self._address} are too many"
        todo = "let the peer start with --accept-spray, and name its address in the policy file (--policy); or use a relay"
        if self._consent is None:
            raise PolicyRefused(what, why=f"the peer did not agree to be sprayed, and {self._few} are left without", todo=todo)
        if why := self._consent.why_not(self._key, self._address, now_ns() // SECOND):
            raise PolicyRefused(what, why=why, todo=todo)
        path = self._policy or default_path()
        entries = read_policy(path) if self._policy or path.exists() else ()
        for target in set(targets):
            try:
                entry = entry_for(target, entries, at=datetime.now(UTC))
            except PolicyRefused as error:
                raise PolicyRefused(what, why=error.why, todo=todo) from error
            if entry.packets_per_s < PER_S:
                why = f"the policy file's entry for it allows {entry.packets_per_s} packets a second, and a spray takes {PER_S}"
                raise PolicyRefused(what, why=why, todo=f"write packets_per_s = {PER_S} there, if its owner agrees")
        if len(targets) > self._many:
            why = f"of the connections that it agreed to, {self._many} are left"
            raise PolicyRefused(what, why=why, todo="let it accept more: --accept-spray")
