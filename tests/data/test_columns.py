"""Shards: atomic, resumable, the same bytes whatever the workers; broken ones are named."""

import io
import json
import os
import pickle
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import webdataset

from src.data.columns import Column, ColumnError, Sample, Unusable, build_column, verify

SHARDS = [["a", "b"], ["c"], ["d", "e", "f"]]


def make(shard: int, keys: Sequence[str]) -> Iterator[tuple[str, Sample]]:
    for key in keys:
        yield key, {"txt": f"{shard}{key}".encode(), "json": b"{}"}


def make_badly(shard: int, keys: Sequence[str]) -> Iterator[tuple[str, Sample] | Unusable]:
    for key in keys:
        yield Unusable(key, "torn") if key == "e" else (key, {"txt": key.encode()})


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in [*sorted(folder.glob("*.tar")), folder / "index.json"]}


def test_any_webdataset_tool_reads_a_column(tmp_path: Path) -> None:
    build_column(tmp_path, SHARDS, make, {})
    read = [(s["__key__"], s["txt"]) for s in webdataset.WebDataset(str(tmp_path / "{00000..00002}.tar"), shardshuffle=False)]
    assert read == [(k, f"{i}{k}".encode()) for i, keys in enumerate(SHARDS) for k in keys]


def test_bytes_depend_on_neither_workers_nor_interruption(tmp_path: Path) -> None:
    build_column(tmp_path / "one", SHARDS, make, {"x": 1})
    build_column(tmp_path / "two", SHARDS, make, {"x": 1}, workers=2)
    broken = tmp_path / "broken"

    def stops(shard: int, keys: Sequence[str]) -> Iterator[tuple[str, Sample]]:
        yield from make(shard, keys[:1])
        if shard == 1:
            raise KeyboardInterrupt
        yield from make(shard, keys[1:])

    with pytest.raises(KeyboardInterrupt):
        build_column(broken, SHARDS, stops, {"x": 1})
    assert [p.name for p in broken.glob("*.tar")] == ["00000.tar"]
    kept = (broken / "00000.tar").stat().st_mtime_ns
    build_column(broken, SHARDS, make, {"x": 1})
    assert (broken / "00000.tar").stat().st_mtime_ns == kept
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(broken)


def test_another_configuration_empties_the_folder_first(tmp_path: Path) -> None:
    build_column(tmp_path, SHARDS, make, {"x": 1})
    index = build_column(tmp_path, SHARDS[:1], make, {"x": 2})
    assert index["count"] == 2 and [p.name for p in tmp_path.glob("*.tar")] == ["00000.tar"]


def test_unusable_rows_are_quarantined_up_to_a_share(tmp_path: Path) -> None:
    index = build_column(tmp_path, SHARDS, make_badly, {}, max_quarantined=0.2)
    assert index["count"] == 5
    assert json.loads((tmp_path / "quarantine.jsonl").read_text()) == {"key": "e", "reason": "torn"}
    with pytest.raises(ColumnError, match=r"1 of 6 rows cannot be used .e: torn"):
        build_column(tmp_path, SHARDS, make_badly, {}, max_quarantined=0.1)


def test_random_access_equals_the_shards(tmp_path: Path) -> None:
    build_column(tmp_path, SHARDS, make, {})
    column = Column(tmp_path)
    assert column.keys == list("abcdef") and column[5] == {"txt": b"2f", "json": b"{}"} and column.rows(2) == range(3, 6)


def test_keys_that_need_more_than_a_tar_header(tmp_path: Path) -> None:
    keys = ["a" * 120, "日本", "b"]
    build_column(tmp_path, [keys], make, {})
    column = Column(tmp_path)
    assert column.keys == keys and [sample["txt"] for _, sample in column] == [f"0{key}".encode() for key in keys]


def test_no_more_shards_are_open_than_a_system_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.data.columns.MOST_OPEN", 2)
    build_column(tmp_path, SHARDS, make, {})
    before = len(os.listdir("/dev/fd"))
    column = Column(tmp_path)
    for _ in range(2):
        assert [sample["txt"] for _, sample in column] == [b"0a", b"0b", b"1c", b"2d", b"2e", b"2f"]
    assert len(os.listdir("/dev/fd")) <= before + 2
    assert list(pickle.loads(pickle.dumps(column))) == list(column)


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    build_column(tmp_path, SHARDS, make, {})
    shard = tmp_path / "00001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:512] + b"?" + whole[513:])
    with pytest.raises(ColumnError, match=r"00001\.tar differs"):
        verify(tmp_path)
    shard.write_bytes(whole[:700])
    with pytest.raises(ColumnError, match=r"00001\.tar"):
        Column(tmp_path)


def test_verify_compares_rows_with_another_column(tmp_path: Path) -> None:
    build_column(tmp_path / "color", SHARDS, make, {})
    build_column(tmp_path / "sketch", SHARDS[:2], make, {})
    assert verify(tmp_path / "color") == 6
    with pytest.raises(ColumnError, match="not those of"):
        verify(tmp_path / "sketch", tmp_path / "color")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match="is no column"):
        Column(tmp_path / "nowhere")


def test_tar_members_carry_no_time_or_user(tmp_path: Path) -> None:
    build_column(tmp_path, SHARDS, make, {})
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "00000.tar").read_bytes())) as tar:
        assert {(m.mtime, m.uname, m.uid) for m in tar} == {(0, "", 0)}
