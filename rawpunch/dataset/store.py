"""The one door to runs on disk: write one, find one, load one, check one, remove one."""

from rawpunch.dataset.check import verify
from rawpunch.dataset.layout import RunInfo, data_root, find_run, list_runs, new_run_id, remove, run_folder
from rawpunch.dataset.manifest import FileEntry, MachineInfo, Manifest, Part
from rawpunch.dataset.reader import Dataset, load
from rawpunch.dataset.writer import RunWriter

__all__ = [
    "Dataset",
    "FileEntry",
    "MachineInfo",
    "Manifest",
    "Part",
    "RunInfo",
    "RunWriter",
    "data_root",
    "find_run",
    "list_runs",
    "load",
    "new_run_id",
    "remove",
    "run_folder",
    "verify",
]
