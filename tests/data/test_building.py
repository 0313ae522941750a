"""Builds that are killed, that meet, that run elsewhere: always the same bytes, and nothing left over."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from src.data.columns import Column, ColumnError, MakeShard, Sample, build_column, read_index, shard_keys, verify
from src.data.engines import Engine
from src.data.storage import RemoteFolder
from src.files import UserError
from tests.data.test_columns import SHARDS, make, make_badly

ROWS = [[f"{i}-{j}" for j in range(6)] for i in range(12)]


def slow(shard: int, keys: Sequence[str]) -> Iterator[tuple[str, Sample]]:
    for key in keys:
        time.sleep(0.002)
        yield key, {"txt": f"{shard}{key}".encode() * 200}


def started(directory: Path, make: MakeShard = slow) -> multiprocessing.process.BaseProcess:
    """A build under way in a process of its own, with two workers."""
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=build_column, args=(directory, ROWS, make, {"x": 1}), kwargs={"workers": 2})
    process.start()
    return process


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()} if directory.exists() else {}


def test_killed_at_20_random_moments_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    begun = time.monotonic()
    started(tmp_path / "whole").join()
    usual = time.monotonic() - begun
    moments, seen, left = random.Random(0), set(), set()
    for _ in range(20):
        process = started(tmp_path / "killed")
        time.sleep(moments.uniform(0, 0.7 * usual))
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        names = files(tmp_path / "killed")
        seen.add(sum(name.endswith(".tar") for name in names))
        left |= {name.rpartition(".")[2] for name in names if name.endswith((".tmp", ".lock"))}
        if "index.json" in names:  # finished before it was killed: once more
            for path in (tmp_path / "killed").iterdir():
                path.unlink()
    started(tmp_path / "killed").join()
    assert len(seen) > 1 and "lock" in left  # the kills did come at different moments, and did leave something
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert not any(name.endswith((".tmp", ".lock")) for name in files(tmp_path / "killed"))


def test_of_two_builds_at_once_one_says_so_and_does_no_harm(tmp_path: Path) -> None:
    build_column(tmp_path / "alone", ROWS, slow, {"x": 1})
    first = started(tmp_path / "column", make=partial(held, gate=tmp_path / "go"))
    while not (tmp_path / "column/.config").exists():
        time.sleep(0.001)
    with pytest.raises(UserError, match=r"Another process is building .*column"):
        build_column(tmp_path / "column", ROWS, hurried, {"x": 2})
    (tmp_path / "go").touch()
    first.join()
    assert first.exitcode == 0 and files(tmp_path / "column") == files(tmp_path / "alone")


def held(shard: int, keys: Sequence[str], *, gate: Path) -> Iterator[tuple[str, Sample]]:
    while not gate.exists():
        time.sleep(0.01)
    yield from slow(shard, keys)


def hurried(shard: int, keys: Sequence[str]) -> Iterator[tuple[str, Sample]]:
    raise AssertionError("must not be called")


def test_an_error_in_a_worker_is_raised_as_it_is(tmp_path: Path) -> None:
    for workers in (1, 2):
        with pytest.raises(AssertionError, match="must not be called"):
            build_column(tmp_path, ROWS, hurried, {}, workers=workers)
    assert set(files(tmp_path)) == {".config"}
    with pytest.raises(UserError, match=r"data\.engine is 'slurm'"):
        build_column(tmp_path, ROWS, slow, {}, engine=Engine("slurm"))


def dies(shard: int, keys: Sequence[str]) -> Iterator[tuple[str, Sample]]:
    os._exit(9)


def test_a_worker_that_dies_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="A worker process died"):
        build_column(tmp_path, ROWS, dies, {}, workers=2)


def test_ray_gives_the_same_bytes(tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from src.data.derived import sketch_shard

    monkeypatch.setenv("RAY_worker_niceness", "0")  # by default Ray's workers give way to whatever else runs here
    rows = shard_keys(read_index(data_root / "val/color"))
    make_sketch = partial(sketch_shard, color=data_root / "val/color", seed=0, methods={"xdog": 1, "artist": 1})
    build_column(tmp_path / "local", rows, make_sketch, {})
    build_column(tmp_path / "ray", rows, make_sketch, {}, engine=Engine("ray", 2))
    assert files(tmp_path / "ray") == files(tmp_path / "local")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty object store."""
    import fsspec

    monkeypatch.setenv("COLORIZE_CACHE", str(tmp_path / "cache"))
    yield "memory://set/val"
    fsspec.filesystem("memory").store.clear()


def test_a_column_in_an_object_store(tmp_path: Path, store: str) -> None:
    index = build_column(tmp_path / "color", SHARDS, make_badly, {}, max_quarantined=0.2)
    assert build_column(f"{store}/color", SHARDS, make_badly, {}, max_quarantined=0.2) == index
    assert verify(f"{store}/color", tmp_path / "color") == 5
    local, remote = Column(tmp_path / "color"), Column(f"{store}/color")
    assert list(local) == list(remote) and len(list((tmp_path / "cache").glob("*.tar"))) == 3
    place = RemoteFolder(f"{store}/color")
    assert place.files() == {name: len(data) for name, data in files(tmp_path / "color").items()}
    place.write("00001.tar", lambda f: f.write(b"x" * place.files()["00001.tar"]))
    with pytest.raises(ColumnError, match=r"memory://set/val/color/00001\.tar differs"):
        verify(place)


def test_a_build_in_an_object_store_continues(store: str) -> None:
    def stops(shard: int, keys: Sequence[str]) -> Iterator[tuple[str, Sample]]:
        if shard == 1:
            raise KeyboardInterrupt
        yield from make(shard, keys)

    with pytest.raises(KeyboardInterrupt):
        build_column(store, SHARDS, stops, {"x": 1})
    assert set(RemoteFolder(store).files()) == {".config", "00000.tar", ".00000.json"}
    made = []

    def counts(shard: int, keys: Sequence[str]) -> Iterator[tuple[str, Sample]]:
        made.append(shard)
        yield from make(shard, keys)

    build_column(store, SHARDS, counts, {"x": 1})
    assert made == [1, 2]
    build_column(store, SHARDS[:1], counts, {"x": 2})
    assert {name for name in RemoteFolder(store).files() if name.endswith(".tar")} == {"00000.tar"}


def test_builds_of_two_configurations_meet_where_there_are_no_locks(store: str) -> None:
    def overtaken(shard: int, keys: Sequence[str]) -> Iterator[tuple[str, Sample]]:
        if shard == 1:
            build_column(store, SHARDS, make, {"x": 2})
        yield from make(shard, keys)

    with pytest.raises(ColumnError, match="taken over"):
        build_column(store, SHARDS, overtaken, {"x": 1})
    assert verify(store) == 6


def test_what_is_fetched_is_checked(tmp_path: Path, store: str) -> None:
    build_column(store, SHARDS, make, {})
    size = RemoteFolder(store).files()["00002.tar"]
    RemoteFolder(store).write("00002.tar", lambda f: f.write(b"x" * size))
    column = Column(store)
    assert column[0] == {"txt": b"0a", "json": b"{}"}
    with pytest.raises(UserError, match=r"00002\.tar differs"):
        column[5]
    assert len(list((tmp_path / "cache").glob("*.tar"))) == 1


def test_an_unknown_store_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nostore://x/y cannot be reached"):
        Column("nostore://x/y")
    build_column(f"file://{tmp_path}/color", SHARDS, make, {})
    assert Column(tmp_path / "color").keys == list("abcdef")
