"""A run's folder: what is written is there after a kill, what is not listed is not, and two writers never meet."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import rawpunch
from rawpunch.dataset import files
from rawpunch.dataset.lock import LOCK_NAME
from rawpunch.dataset.store import (
    Manifest,
    RunWriter,
    data_root,
    find_run,
    list_runs,
    load,
    new_run_id,
    remove,
    verify,
)
from rawpunch.errors import BadParameter, PartialData, UnknownName, Unreadable, UsageError
from tests.dataset.dataset_rows import CELLS, FIRST, SECOND, attempt, manifest, segment, tables


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[RunWriter]:
    """A new run in an empty data folder."""
    with RunWriter.create(manifest(), root=tmp_path) as made:
        yield made


def test_a_finished_run_is_sound_and_loads(writer: RunWriter, tmp_path: Path) -> None:
    """Two parts with captures: all four frames are there, integers are integers, and verify finds nothing."""
    for number, cell in enumerate((FIRST, SECOND)):
        part = writer.next_part()
        names = [f"{cell} {repeat}" for repeat in range(2)]
        rows = tables(*names, cell=cell)
        rows["attempts"] = [attempt(name, cell, capture=writer.capture_name(part)) for name in names]
        writer.write_part(part, rows, levels=CELLS, captures={writer.capture_name(part): b"packets %d" % number})
    writer.finish([{"claim": "C10", "verdict": "upheld", "n": 4}])

    run = load("raw_vs_kernel", tmp_path)
    assert verify(run.path) == []
    assert (len(run.attempts), len(run.segments), len(run.transitions), len(run.mappings)) == (4, 4, 4, 4)
    assert run.attempts["ends"].tolist() == ["raw-raw", "raw-raw", "kernel-kernel", "kernel-kernel"]
    assert str(run.attempts["sent_a_ns"].dtype) == "Int64"
    assert run.attempts["sent_a_ns"].iloc[0] == 1_795_207_507_925_878_001
    assert run.attempts["sent_b_ns"].isna().all()
    assert str(run.segments["time_ns"].dtype) == "int64"
    assert run.capture(run.attempts["capture"].iloc[0]).read_bytes() == b"packets 0"
    assert run.manifest.status == "complete"
    assert run.manifest.ended is not None
    assert run.manifest.verdicts[0]["n"] == 4
    assert run.manifest.parts[1].cells == (SECOND,)
    assert not (run.path / LOCK_NAME).exists()


def test_frames_are_copies(writer: RunWriter) -> None:
    """What a notebook does to a frame does not change the run."""
    writer.write_part("p", tables("a"), levels=CELLS)
    writer.finish()
    run = load(writer.path)
    frame = run.attempts
    frame.loc[0, "outcome"] = "spoiled"
    frame["extra"] = 1
    assert run.attempts["outcome"].tolist() == ["established"]
    assert "extra" not in run.attempts


def test_an_empty_run_loads(writer: RunWriter) -> None:
    """Without a part the frames are empty but have all their columns, factors too."""
    writer.close()
    run = load(writer.path)
    assert len(run.attempts) == 0
    assert {"outcome", "ends", "owd_ns"} <= set(run.attempts.columns)
    assert run.manifest.status == "partial"


def test_a_capture_may_come_from_a_file(writer: RunWriter, tmp_path: Path) -> None:
    """A recorder's file is copied in, and drops are added up per vantage point."""
    source = tmp_path / "elsewhere.pcapng"
    source.write_bytes(b"\x0a\x0d\x0d\x0a")
    writer.write_part(
        "p", tables("a"), levels=CELLS, captures={"captures/x.pcapng": source}, capture_drops={"core:eth0": 2, "hostA:eth0": 0}
    )
    writer.write_part("q", tables("b"), levels=CELLS, capture_drops={"core:eth0": 3})
    assert (writer.path / "captures/x.pcapng").read_bytes() == source.read_bytes()
    assert writer.manifest.capture_drops == {"core:eth0": 5, "hostA:eth0": 0}


# --- resuming ---


def test_resume_keeps_parts_and_sweeps_the_rest(writer: RunWriter) -> None:
    """A killed run's temporary files and unlisted parts go away; its finished attempts are known."""
    writer.write_part("part-00000", tables("a", "b"), levels=CELLS)
    writer.close()
    for leftover in ("attempts/part-00001.parquet.tmp", "segments/part-00001.parquet", "captures/x.pcapng"):
        (writer.path / leftover).write_bytes(b"half a file")
    assert len(verify(writer.path)) == 3

    with RunWriter.resume(writer.path, manifest(repeats=5)) as again:
        assert again.finished_attempts() == {"a", "b"}
        assert again.next_part() == "part-00001"
        assert again.manifest.status == "running"
        assert again.manifest.repeats == 5
        again.write_part("part-00001", tables("c"), levels=CELLS)
        again.finish()
    assert verify(writer.path) == []
    assert load(writer.path).attempts["attempt"].tolist() == ["a", "b", "c"]
    assert len(load(writer.path).manifest.resumed) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"experiment": "other"},
        {"seed": 8},
        {"driver": "sim"},
        {"grid": {"ends": ("raw-raw",), "owd_ns": (5_000_000,)}},
        {"machine": {"kernel": "5.15.0", "python": "3.11.7", "cpus": 2}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_resume_refuses_another_run(writer: RunWriter, change: dict[str, object]) -> None:
    """Halves that differ in experiment, seed, driver, grid or kernel are not one run; the folder stays as it was."""
    writer.close()
    before = (writer.path / "manifest.json").read_bytes()
    with pytest.raises(BadParameter, match="cannot be resumed"):
        RunWriter.resume(writer.path, manifest(**change))
    assert (writer.path / "manifest.json").read_bytes() == before


def test_resume_needs_a_run(tmp_path: Path) -> None:
    """A folder without a manifest cannot be resumed."""
    with pytest.raises(Unreadable, match="holds no run"):
        RunWriter.resume(tmp_path, manifest())


# --- one writer ---


def test_a_second_writer_is_refused(writer: RunWriter) -> None:
    """The second one is told why, and the first one goes on."""
    with pytest.raises(UsageError, match="another process"):
        RunWriter.resume(writer.path, manifest())
    with pytest.raises(UsageError, match="being written"):
        remove(writer.path)
    writer.write_part("p", tables("a"), levels=CELLS)
    assert writer.manifest.attempts == 1


def test_a_run_is_not_made_twice(writer: RunWriter, tmp_path: Path) -> None:
    """A finished run is never overwritten, and the refused attempt leaves no lock."""
    writer.close()
    with pytest.raises(UsageError, match="holds a run already"):
        RunWriter.create(manifest(), root=tmp_path)
    assert not (writer.path / LOCK_NAME).exists()


_CHILD = """
import sys, time
from rawpunch.dataset.store import RunWriter
from tests.dataset.dataset_rows import CELLS, manifest, tables
writer = RunWriter.create(manifest(), root=sys.argv[1])
writer.write_part("part-00000", tables("a", "b"), levels=CELLS)
print(writer.path, flush=True)
time.sleep(60)
"""


def test_a_killed_writer_leaves_what_it_finished(tmp_path: Path) -> None:
    """While it lives its folder is locked against others; after kill -9 the run is taken up and nothing finished is lost."""
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    try:
        assert child.stdout is not None
        path = Path(child.stdout.readline().strip())
        with pytest.raises(UsageError, match="another process"):
            RunWriter.resume(path, manifest())
        assert verify(path) == []
    finally:
        child.kill()
        child.communicate()
    assert any("--resume" in problem for problem in verify(path))
    with RunWriter.resume(path, manifest()) as writer:
        assert writer.finished_attempts() == {"a", "b"}
        writer.finish()
    assert verify(path) == []
    assert not (path / LOCK_NAME).exists()


# --- bad luck ---


def test_a_full_disk_keeps_the_parts_before(writer: RunWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC is PartialData; the part in hand leaves nothing behind and the run is sound."""
    writer.write_part("p", tables("a"), levels=CELLS)
    real = files.sync

    def full(path: Path) -> None:
        if path.name.startswith("q"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path)

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(PartialData, match="disk is full"):
        writer.write_part("q", tables("b"), levels=CELLS)
    monkeypatch.undo()
    assert writer.finished_attempts() == {"a"}
    writer.close()
    assert verify(writer.path) == []
    assert not list(writer.path.rglob("*.tmp"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_the_words_for_a_full_disk() -> None:
    """A real ENOSPC from the kernel gets exit code 5 and says what to do."""
    path = Path("/dev/full")
    with pytest.raises(PartialData) as caught, files.told_in_words(path):
        path.write_bytes(b"x")
    assert caught.value.exit_code == 5
    assert "--resume" in caught.value.todo


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    """A root that is a file, or forbidden, is a usage error with a way out."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        RunWriter.create(manifest(), root=tmp_path / "file")
    with pytest.raises(UsageError, match="may not be written") as caught, files.told_in_words(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert "RAWPUNCH_DATA" in caught.value.todo


def test_files_made_under_sudo_belong_to_the_user(writer: RunWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root with SUDO_UID set, every folder and file of a run is given to that user."""
    writer.close()
    given: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, user, group: given.update({Path(path).name: (user, group)}))
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setenv("SUDO_GID", "1001")
    with RunWriter.create(manifest(run_id="second"), root=tmp_path) as second:
        second.write_part("p", tables("a"), levels=CELLS)
    assert set(given.values()) == {(1000, 1001)}
    assert {"second", "attempts", "captures", "manifest.json.tmp", "p.parquet.tmp", LOCK_NAME} <= set(given)


@pytest.mark.parametrize("capture", ["x.pcapng", "../x.pcapng", "captures/../x.pcapng", "attempts/x.pcapng", "captures/.."])
def test_a_capture_stays_in_its_folder(writer: RunWriter, capture: str) -> None:
    """A capture's name cannot lead out of the run."""
    with pytest.raises(BadParameter, match="no capture of the run"):
        writer.write_part("p", tables("a"), levels=CELLS, captures={capture: b""})


def test_names_are_taken_once(writer: RunWriter) -> None:
    """A part, an attempt or a capture that is there already is refused, and so is a table that does not exist."""
    writer.write_part("p", tables("a"), levels=CELLS, captures={"captures/p.pcapng": b""})
    for name, rows, captures, message in (
        ("p", tables("b"), {}, "part 'p'"),
        ("q", tables("a"), {}, "attempt 'a'"),
        ("q", tables("b", "b"), {}, "attempt 'b'"),
        ("q", tables("b"), {"captures/p.pcapng": b""}, "capture"),
        ("q", {"packets": [segment("b")]}, {}, "no table packets"),
    ):
        with pytest.raises(BadParameter, match=message):
            writer.write_part(name, rows, levels=CELLS, captures=captures)
    assert writer.manifest.attempts == 1


# --- finding ---


def test_finding_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By experiment (newest; own runs before samples), by experiment/run_id, by run_id, by folder; RAWPUNCH_DATA counts."""
    moment = datetime(2026, 2, 1, tzinfo=UTC)
    for run_id, age in (("z-old", 2), ("a-new", 1)):
        RunWriter.create(manifest(run_id=run_id, created=moment - timedelta(days=age)), root=tmp_path).close()
    RunWriter.create(manifest(run_id="kept", created=moment), root=tmp_path / "other").close()
    (tmp_path / "other/runs").rename(tmp_path / "sample")
    monkeypatch.setenv("RAWPUNCH_DATA", str(tmp_path))
    assert [run.manifest.run_id for run in list_runs()] == ["a-new", "z-old", "kept"]
    assert [run.manifest.run_id for run in list_runs(experiment="nothing")] == []
    assert find_run("raw-vs-kernel").name == "a-new"
    assert find_run("raw_vs_kernel").name == "a-new"
    assert find_run("raw-vs-kernel/z-old").name == "z-old"
    assert find_run("kept") == tmp_path / "sample/raw-vs-kernel/kept"
    assert rawpunch.load(tmp_path / "runs/raw-vs-kernel/z-old").manifest.run_id == "z-old"
    with pytest.raises(UnknownName, match="nonsense") as caught:
        load("nonsense")
    assert "raw-vs-kernel" in caught.value.why

    remove(find_run("a-new"))
    assert find_run("raw-vs-kernel").name == "z-old"
    with pytest.raises(Unreadable):
        remove(tmp_path)
    assert tmp_path.exists()


def test_the_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument before environment before ./data."""
    monkeypatch.delenv("RAWPUNCH_DATA", raising=False)
    assert data_root() == Path("data")
    monkeypatch.setenv("RAWPUNCH_DATA", "/elsewhere")
    assert data_root() == Path("/elsewhere")
    assert data_root("here") == Path("here")


def test_run_ids_sort_by_time() -> None:
    """The name of a later run sorts later, whatever the time zone."""
    early = new_run_id(datetime(2026, 1, 31, 23, 59, tzinfo=UTC))
    late = new_run_id(datetime(2026, 2, 1, 0, 30, tzinfo=UTC))
    assert early < late
    assert new_run_id() != new_run_id()


# --- checking ---


def _damage_capture(path: Path) -> None:
    (path / "captures/p.pcapng").write_bytes(b"packetz")


def _lose_file(path: Path) -> None:
    (path / "mappings/p.parquet").unlink()


def _edit_manifest(path: Path) -> None:
    written = manifest_of(path)
    part = written.parts[0].model_copy(update={"attempts": 3})
    written.model_copy(update={"parts": (part,)}).write(path)


def _add_stray(path: Path) -> None:
    (path / "attempts/q.parquet").write_bytes(b"")


def _break_manifest(path: Path) -> None:
    (path / "manifest.json").write_text('{"schema_version": 1, "mood": "good"}')


def manifest_of(path: Path) -> Manifest:
    """What is on the disk."""
    return Manifest.read(path)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_damage_capture, "captures/p.pcapng is not the file that was written"),
        (_lose_file, "mappings/p.parquet is missing"),
        (_edit_manifest, "there are 1 attempts, the manifest counts 3"),
        (_add_stray, "attempts/q.parquet is a file that no part lists"),
        (_break_manifest, "is not a manifest of this version"),
    ],
)
def test_verify_names_damage(writer: RunWriter, damage: object, complaint: str) -> None:
    """A changed byte, a lost file, a false count, a stray file and a foreign manifest are each named."""
    assert callable(damage)
    writer.write_part("p", tables("a"), levels=CELLS, captures={"captures/p.pcapng": b"packets"})
    writer.finish()
    assert verify(writer.path) == []
    damage(writer.path)
    assert any(complaint in problem for problem in verify(writer.path))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"decided_by": "natB:wan #4"}, "decided by natB:wan #4"),
        ({"decided_by": "the RST"}, "is not written as"),
        ({"capture": "captures/none.pcapng"}, "capture captures/none.pcapng is missing"),
        ({"outcome": "failed"}, "outcome says 'failed'"),
        ({"pattern_a": "crossing"}, "pattern_a says 'crossing'"),
    ],
)
def test_verify_names_rows_that_contradict(writer: RunWriter, changes: dict[str, Any], complaint: str) -> None:
    """A deciding packet that is not there, a missing capture and words outside the lists are each named."""
    writer.write_part("p", tables("a") | {"attempts": [attempt("a", **changes)]}, levels=CELLS)
    writer.finish()
    assert [complaint in problem for problem in verify(writer.path)] == [True]


def test_verify_names_rows_of_nobody(writer: RunWriter) -> None:
    """A packet of an attempt that does not exist is named."""
    writer.write_part("p", tables("a") | {"segments": [segment("a"), segment("ghost")]}, levels=CELLS)
    writer.finish()
    assert verify(writer.path) == ["segments has rows of ghost, which is no attempt of the run"]


def test_importing_the_package_is_cheap() -> None:
    """`import rawpunch` brings neither pandas nor pyarrow nor pydantic; `rawpunch.load` does."""
    code = "import sys, rawpunch; assert not {'pandas', 'pyarrow', 'pydantic'} & set(sys.modules); rawpunch.load"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="nothing"):
        _ = rawpunch.nothing
