"""The handshake that a raw end is to carry out."""

from __future__ import annotations

from rawpunch.live.end import Order
from rawpunch.tcp.handshake import Handshake
from rawpunch.tcp.profiles import profile
from rawpunch.tcp.state import Offer
from rawpunch.tcp.trying import Habits, Trying


def machine_of(order: Order, offer: Offer | None = None) -> Handshake:
    """The machine that an order asks for.

    Args:
        order: a raw end's.
        offer: what its SYN offers; None for the profile's own.

    Raises:
        UnknownName: there is no such profile.
    """
    own = profile(order.profile)
    habits = Habits(order.first_ttl, order.retry_ns, order.give_up_ns, order.told_ns, order.peer_iss)
    if habits.any:
        return Trying(order.local, order.remote, iss=order.iss, profile=own, habits=habits, offer=offer)
    return Handshake(order.local, order.remote, iss=order.iss, profile=own, offer=offer)
