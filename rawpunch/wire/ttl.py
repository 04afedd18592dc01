"""How many routers a packet may pass."""

from typing import Final

DEFAULT_TTL: Final = 64
"""What a packet starts with unless somebody wants it to die on its way; Linux's default (net.ipv4.ip_default_ttl)."""
