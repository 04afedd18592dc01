"""What an observer was shown beside what the next connection got, and who was let in: the tables of `experiments/binding.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from rawpunch.analysis.statistics import Proportion, wilson
from rawpunch.nat import personas
from rawpunch.nat.behavior import Behavior, Filtering, Mapping
from rawpunch.scene import OBSERVERS
from rawpunch.wire.endpoint import Endpoint

if TYPE_CHECKING:
    import pandas as pd

STRANGER: Final = "stranger"
"""A third party to whom the inside has sent nothing."""
THIRD_PARTIES: Final = (STRANGER, "address_known", "endpoint_known")
"""Third parties, by what the inside has sent to: nothing, another port of theirs, their very endpoint."""
_OBSERVERS: Final = frozenset(address for addresses in OBSERVERS.values() for address in addresses)

Such = Callable[[Behavior], bool]


def one_for_all(nat: Behavior) -> bool:
    """Whether an inside endpoint has one mapping for all remotes."""
    return nat.mapping is Mapping.ENDPOINT_INDEPENDENT


def overloads(nat: Behavior) -> bool:
    """Whether inside hosts with one port get one external port, as far as the NAT's preserving and overloading go."""
    return nat.ports.overloading and nat.port_is_kept


def open_to_all(nat: Behavior) -> bool:
    """Whether anybody may come in."""
    return nat.filtering is Filtering.ENDPOINT_INDEPENDENT


def lets_in(nat: Behavior, third_party: str) -> bool:
    """Whether a NAT is to let a third party in at the mapping that an observer saw, by its filtering.

    What the inside has sent to somebody else opens a mapping of its own where there is not one for all.
    """
    if open_to_all(nat):
        return True
    known = {"address_known": nat.filtering is Filtering.ADDRESS_DEPENDENT, "endpoint_known": True}
    return one_for_all(nat) and known.get(third_party, False)


class Bindings:
    """The attempts that count, by NAT and trial.

    Args:
        good: the attempts table without disturbed ones.
        mappings: the mappings table of the same run.
    """

    def __init__(self, good: pd.DataFrame, mappings: pd.DataFrame) -> None:
        shown = mappings[mappings["nat"] == "natA"]
        to_observer = [Endpoint.parse(remote).address in _OBSERVERS for remote in shown["remote"]]
        answered = shown[to_observer].drop_duplicates("attempt").set_index("attempt")["external"]
        self.table = good.assign(answer=good["attempt"].map(answered), opened=good["outcome"] == "established")
        self._nats = {str(name): personas.load(str(name)).behavior for name in good["nat"].unique()}

    def same(self, trial: str, such: Such) -> Proportion:
        """How often the observer's answer was the mapping that the connection then got, with such NATs."""
        chosen = self._chosen(trial, such).dropna(subset=["answer", "mapped_a"])
        return wilson(int((chosen["answer"] == chosen["mapped_a"]).sum()), len(chosen))

    def opened(self, trial: str, such: Such) -> Proportion:
        """How often it opened, with such NATs."""
        chosen = self._chosen(trial, such)
        return wilson(int(chosen["opened"].sum()), len(chosen))

    def as_filtered(self) -> Proportion:
        """How often a third party was let in, or not, as the NAT's filtering says."""
        tried = self.table[self.table["trial"].isin(THIRD_PARTIES)]
        wanted = [lets_in(self._nats[nat], trial) for nat, trial in zip(tried["nat"], tried["trial"], strict=True)]
        return wilson(int((tried["opened"] == wanted).sum()), len(tried))

    def _chosen(self, trial: str, such: Such) -> pd.DataFrame:
        nats = [name for name, behavior in self._nats.items() if such(behavior)]
        return self.table[(self.table["trial"] == trial) & self.table["nat"].isin(nats)]
