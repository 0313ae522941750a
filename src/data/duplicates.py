"""Images that look alike, by perceptual hash: the signs of the low frequencies of a cosine transform, after Zauner (2010)."""

import functools
import itertools
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy.fft import dctn

from src.data.images import ImageError, fitted
from src.data.sources import Item, Removed, Row, source
from src.files import UserError, config_hash, write_json

SIDE = 32  # of the image that is transformed
KEPT = 8  # frequencies a side
# Zauner's threshold is their median, which for a symmetric drawing lies in the noise of frequencies that it does not have.
# Of 354 drawings all were found again (2 bits) after JPEG or a smaller size with this one, 80 % with the median.
THRESHOLD = 8
REMOVED = "looks like another image"


def perceptual_hash(data: bytes) -> int:
    """64 bits, one a frequency: above THRESHOLD or not. 0 for an image without any contrast. ImageError if it is no image."""
    image, _ = fitted(data, 4 * SIDE, "squeeze", mode="L")
    small = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    low = dctn(small, norm="ortho")[:KEPT, :KEPT].ravel()
    low[0] = 0  # the mean says nothing of what is drawn
    return int.from_bytes(np.packbits(low > THRESHOLD).tobytes(), "big")


def alike(hashes: np.ndarray, bits: int) -> np.ndarray:
    """For each uint64 hash the index of its group's first one; groups are joined by hashes that differ in at most `bits` bits.

    A hash of 0 is alike to none. Of bits + 1 parts of two such hashes one is equal, so that only those are compared.
    """
    first, seen = np.arange(len(hashes)), np.flatnonzero(hashes)
    distinct, index, inverse = np.unique(hashes[seen], return_index=True, return_inverse=True)
    parent = np.arange(len(distinct))
    edges = np.linspace(0, 64, bits + 2).astype(int)
    for low, high in itertools.pairwise(edges):
        part = (distinct >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(part, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(part[order])) + 1):
            for i, one in enumerate(bucket[:-1]):
                others = bucket[i + 1 :]
                for other in others[np.bitwise_count(distinct[others] ^ distinct[one]) <= bits]:
                    _join(parent, int(one), int(other))
    roots = np.array([_root(parent, i) for i in range(len(distinct))], int)
    earliest = np.full(len(distinct), len(hashes))
    np.minimum.at(earliest, roots, seen[index])
    first[seen] = earliest[roots[inverse]]
    return first


def _root(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


def _join(parent: np.ndarray, a: int, b: int) -> None:
    a, b = _root(parent, a), _root(parent, b)
    parent[max(a, b)] = min(a, b)


class Duplicates(NamedTuple):
    """removed: the keys of images that look like an earlier one; groups: the new name of each group that was joined with others."""

    removed: frozenset[str]
    groups: dict[str, str]

    def apply(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            if isinstance(item, Row) and item.key in self.removed:
                yield Removed(REMOVED)
            elif isinstance(item, Row) and item.group in self.groups:
                yield replace(item, group=self.groups[item.group])
            else:
                yield item


def find_duplicates(
    kind: str, options: Mapping[str, Any], *, bits: int = 2, keep: str = "first", workers: int, found: Path
) -> Duplicates:
    """The duplicates among all rows of a source. keep: `first` of those that look alike, by key, or `all`, in one split.

    The answer is kept in the file `found`, and read from there as long as the source has the same rows.
    """
    if keep not in {"first", "all"}:
        raise UserError(f"data.duplicates.keep is {keep!r}. It must be first or all.")
    rows = functools.partial(_rows, kind, options)
    state = config_hash([bits, keep, _fingerprint(rows())])
    if found.exists() and (known := json.loads(found.read_text()))["state"] == state:
        return Duplicates(frozenset(known["removed"]), known["groups"])
    keys, groups, hashes = list[str](), list[str](), list[int]()
    with ProcessPoolExecutor(workers) as pool:
        waiting: deque[Future[list[int]]] = deque()
        for chunk in _chunks(rows(), 64):
            keys += [row.key for row in chunk]
            groups += [row.group for row in chunk]
            waiting.append(pool.submit(_hashes, kind, options, [row.place for row in chunk]))
            while len(waiting) > 4 * workers:
                hashes += waiting.popleft().result()
        for rest in waiting:
            hashes += rest.result()
    order = sorted(range(len(keys)), key=keys.__getitem__)
    first = alike(np.array([hashes[i] for i in order], np.uint64), bits)
    later = [(order[i], order[int(f)]) for i, f in enumerate(first) if f != i]
    removed = sorted({keys[i] for i, _ in later}) if keep == "first" else []
    joined = _joined((groups[i], groups[f]) for i, f in later)
    found.parent.mkdir(parents=True, exist_ok=True)
    write_json(found, {"state": state, "removed": removed, "groups": joined})
    return Duplicates(frozenset(removed), joined)


def _rows(kind: str, options: Mapping[str, Any]) -> Iterator[Row]:
    return (item for item in source(kind).rows(options) if isinstance(item, Row))


def _fingerprint(rows: Iterable[Row]) -> int:
    """Of keys, groups and places, whatever their order."""
    return sum(int(config_hash([row.key, row.group, row.place]), 16) for row in rows) % 2**256


def _chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while chunk := list(itertools.islice(rows, size)):
        yield chunk


def _hashes(kind: str, options: Mapping[str, Any], places: Sequence[Mapping[str, Any]]) -> list[int]:
    """0 for what is no image: the stage that reads it again says why."""
    hashes = []
    for place in places:
        try:
            hashes.append(perceptual_hash(source(kind).load(place, options).image))
        except (ImageError, OSError):
            hashes.append(0)
    return hashes


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """For each group of the pairs the smallest name of all that it is joined with."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            name = above
        return name

    for pair in pairs:
        one, other = sorted(map(root, pair))
        parent[other] = one
    return {name: root(name) for name in sorted(parent)}
