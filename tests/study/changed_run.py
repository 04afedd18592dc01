"""A run of which something else happened, for what is said of it then."""

from __future__ import annotations

import pandas as pd

from rawpunch.dataset.store import Dataset


class ChangedRun(Dataset):
    """A run with other attempts."""

    def __init__(self, run: Dataset, attempts: pd.DataFrame) -> None:
        super().__init__(run.path)
        self._frames["attempts"] = attempts
