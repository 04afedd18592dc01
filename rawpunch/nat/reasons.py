"""Why a NAT did not pass a packet: the closed list of words, one sentence each."""

from __future__ import annotations

import enum


class Reason(enum.StrEnum):
    """The word that stands in `Refused.reason`."""

    NO_MAPPING = "no_mapping"
    """No mapping has the external endpoint that it came to."""
    FILTERED = "filtered"
    """There is a mapping, and its filter does not let this remote endpoint in."""
    CROSSING_SYN = "crossing_syn"
    """It is a SYN from where a SYN went out to, and this NAT lets no SYNs cross."""
    POISONED = "poisoned"
    """A crossing SYN came before, and this NAT lets nothing in after one."""
    SYN_ACK_OUT = "syn_ack_out"
    """It is a SYN-ACK from inside, and this NAT does not let it out now."""
    INVALID = "invalid"
    """It makes no sense in its session's state."""
    BAD_NUMBERS = "bad_numbers"
    """It is a RST or SYN-ACK whose numbers do not fit the connection."""
    NO_SESSION = "no_session"
    """It came from inside, opens nothing and belongs to nothing."""
    TABLE_FULL = "table_full"
    """There is no room for another session."""
    NO_PORT = "no_port"
    """There is no external port left for it."""
    HAIRPIN = "hairpin"
    """It came from inside for the NAT's own external address, and this NAT turns nothing round."""
    TTL_EXPIRED = "ttl_expired"
    """Its time to live ends here."""
    ICMP_STRANGE = "icmp_strange"
    """It is an ICMP error about no session of this NAT."""
    ICMP_UNTRANSLATED = "icmp_untranslated"
    """It is an ICMP error about a session, and this NAT passes none on."""
    NOT_OURS = "not_ours"
    """It came from outside for an address that this NAT does not have."""
