"""How two peers prove to each other that they know the room's token, on the connection that they have just opened.

    both    "rawpunch1", the role, a nonce             their hellos, at once, without waiting for the other
    both    HMAC-SHA256(key, who proves, both hellos)
    leader  one octet: this is the connection          where several may come about, and both have to go on with the same one

Two who met at a rendezvous server have told it their nonces, so that each knows the other's hello before they connect: they leave
the hellos out, and a stranger at the other end does not even learn what is proved.

The key is a digest of the token that differs from the room's name, so a rendezvous server can neither prove nor ask for it. Each
proof covers the verifier's fresh nonce, so an old one is of no use; the prover's nonce stands first, and equal nonces are
refused, so a peer's own words sent back to it prove nothing.

Leader is whom the rendezvous server calls side A; of two who met without a server it is the one with the lesser nonce.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from rawpunch.errors import Malformed

MAGIC: Final = b"rawpunch1"
NONCE_OCTETS: Final = 32
HELLO_OCTETS: Final = len(MAGIC) + 1 + NONCE_OCTETS
PROOF_OCTETS: Final = 32
CHOSEN: Final = b"!"

_KEY_LABEL: Final = b"rawpunch proof key\0"
_PROOF_LABEL: Final = b"rawpunch proof\0"


class Role(enum.Enum):
    """Which side of the pair a peer is."""

    A = b"a"
    B = b"b"
    NONE = b"-"
    """They met without a server."""


_OTHER: Final = {Role.A: Role.B, Role.B: Role.A, Role.NONE: Role.NONE}


def key_of(token: str) -> bytes:
    """The key that a token stands for, 32 octets."""
    return hashlib.sha256(_KEY_LABEL + token.encode()).digest()


@dataclass(frozen=True, slots=True)
class Hello:
    """A peer's first words on a connection."""

    role: Role
    nonce: bytes
    """Fresh, of 32 octets."""

    def encode(self) -> bytes:
        """As octets."""
        return MAGIC + self.role.value + self.nonce

    @classmethod
    def decode(cls, octets: bytes) -> Hello:
        """Read one.

        Raises:
            Malformed: these are no such words: whoever says them is no peer of this version.
        """
        if len(octets) != HELLO_OCTETS or not octets.startswith(MAGIC):
            raise Malformed("what came first is no peer's hello")
        try:
            role = Role(octets[len(MAGIC) : len(MAGIC) + 1])
        except ValueError as error:
            raise Malformed("a hello with a role that does not exist") from error
        return cls(role, octets[len(MAGIC) + 1 :])


@dataclass(frozen=True, slots=True)
class Challenge:
    """Both hellos of a connection, as one of the two sees them."""

    mine: Hello
    theirs: Hello

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            Malformed: the other one is not the other side, or says our own words back to us.
        """
        if self.theirs.role is not _OTHER[self.mine.role]:
            raise Malformed("who answered claims to be on our own side")
        if hmac.compare_digest(self.mine.nonce, self.theirs.nonce):
            raise Malformed("who answered says our own words back to us")

    @classmethod
    def between(cls, role: Role, mine: bytes, theirs: bytes) -> Challenge:
        """The challenge of two whose nonces were told before.

        Args:
            role: ours.
            mine: our nonce.
            theirs: the other one's.

        Raises:
            Malformed: it is our own.
        """
        return cls(Hello(role, mine), Hello(_OTHER[role], theirs))

    @property
    def leads(self) -> bool:
        """Whether it is for us to say which connection it will be."""
        return self.mine.nonce < self.theirs.nonce if self.mine.role is Role.NONE else self.mine.role is Role.A

    def proof(self, key: bytes) -> bytes:
        """What proves that we know the token."""
        return _proof(key, self.mine, self.theirs)

    def verify(self, key: bytes, proof: bytes) -> bool:
        """Whether the other one knows it; takes the same time whatever is wrong."""
        return hmac.compare_digest(_proof(key, self.theirs, self.mine), proof)


def _proof(key: bytes, prover: Hello, verifier: Hello) -> bytes:
    return hmac.digest(key, _PROOF_LABEL + prover.encode() + verifier.encode(), "sha256")
