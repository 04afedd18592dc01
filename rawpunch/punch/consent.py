"""A peer's consent to be sprayed: how many SYNs may go to its address, said by who knows the room's token.

A spray aims at an address that a rendezvous server told, and the server may lie. So the one who is to be sprayed says, with the
token's key, which address is its own and how much it may get; the server passes that on and can neither make nor change it. It
cannot prove that the address is the peer's: that nobody else is sprayed is what the sprayer's own policy file is for.

An old consent could be passed on again, so it holds for an hour only, give or take clocks that are wrong by minutes.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, Final, Self

from msgspec import Meta

from rawpunch.errors import BadParameter
from rawpunch.punch.birthday import Budget
from rawpunch.wire.endpoint import canonical
from rawpunch.wire.lines import Value

MOST_PACKETS: Final = 2_048
"""SYNs to one address in a punch, repeated ones counted, however much it agrees to."""
PER_S: Final = 1_000
"""SYNs to it in a second, repeated ones counted."""
REPEATED: Final = 8
"""How often the kernel says a SYN at most, in the ten seconds that such a spray takes: at 0, 1, 2, 3, 4, 5, 7 s."""
LASTS_S: Final = 3_600
CLOCKS_S: Final = 600
"""By how much the two clocks may differ."""
_LABEL: Final = b"rawpunch consent\0"


class Consent(Value, frozen=True):
    """That so many SYNs may go to an address."""

    address: Annotated[str, Meta(max_length=45)]
    packets: Annotated[int, Meta(ge=1, le=MOST_PACKETS)]
    """In all, repeated ones counted."""
    until_s: Annotated[int, Meta(ge=0, lt=2**40)]
    """When it ends, in s since the epoch by its giver's clock."""
    proof: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    """HMAC-SHA256 of all of it with the token's key."""

    @classmethod
    def give(cls, key: bytes, address: str, packets: int, now_s: int) -> Self:
        """Agree.

        Args:
            key: see `proof.key_of`.
            address: our own public one.
            packets: SYNs in all.
            now_s: by our clock.

        Raises:
            BadParameter: that is more than anybody may get, or nothing.
        """
        if not 1 <= packets <= MOST_PACKETS:
            raise BadParameter(f"a consent is for 1 to {MOST_PACKETS} SYNs, not {packets}")
        address, until_s = canonical(address), now_s + LASTS_S
        return cls(address=address, packets=packets, until_s=until_s, proof=_proof(key, address, packets, until_s))

    def why_not(self, key: bytes, address: str, now_s: int) -> str:
        """Why it does not allow to spray an address now; "" if it does."""
        if not hmac.compare_digest(self.proof, _proof(key, self.address, self.packets, self.until_s)):
            return "its consent was not given by who knows the room's token"
        if self.address != address:
            return f"its consent is for {self.address}"
        if not -CLOCKS_S < self.until_s - now_s <= LASTS_S + CLOCKS_S:
            return f"its consent does not hold now: it ends {self.until_s - now_s} s from now by our clock"
        return ""


def connections(consent: Consent) -> int:
    """Connections that may be begun under a consent, as each may take all its repetitions."""
    return consent.packets // REPEATED


def agreed_budget(mine: Consent | None, theirs: Consent | None) -> Budget | None:
    """What a spray may cost where both have agreed to something: the same to both sides. None if one has not."""
    if mine is None or theirs is None:
        return None
    each = max(1, min(connections(mine), connections(theirs)))
    return Budget(packets=2 * each, per_s=PER_S // REPEATED, opened=each)


def _proof(key: bytes, address: str, packets: int, until_s: int) -> str:
    return hmac.new(key, _LABEL + f"{address}\0{packets}\0{until_s}".encode(), hashlib.sha256).hexdigest()
