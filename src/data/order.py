"""Which rows are in which batch: pure functions of seed and batch number, so that training resumes anywhere, on any machine."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from src.files import UserError

TOGETHER = 16  # shards whose rows are shuffled with one another, where shards are read whole


def pass_order(passing: int, counts: Sequence[int], seed: int, by: str = "rows") -> np.ndarray:
    """The rows of a table in the order of a pass: a permutation int64 [N]. counts: rows of each shard.

    by: `rows`, all rows shuffled; or `shards`, shards shuffled, and rows among TOGETHER shards at a time, so that these are enough
    to have at hand.
    """
    rng = np.random.default_rng((seed, passing))
    if by == "rows":
        return rng.permutation(sum(counts))
    starts = np.cumsum([0, *counts])
    shuffled = rng.permutation(len(counts))
    groups = [shuffled[first : first + TOGETHER] for first in range(0, len(counts), TOGETHER)]
    return np.concatenate(
        [rng.permutation(np.concatenate([np.arange(starts[s], starts[s + 1]) for s in group])) for group in groups]
    )


class Batch(NamedTuple):
    bucket: int
    number: int  # of this bucket's batches, from the start of training


class Batches:
    """Batches of `size` rows, each from one bucket, in an order without end.

    A bucket's rows are shuffled anew in each pass and its passes follow one another without a gap: each row comes once a pass of
    its bucket, and what does not fill a batch waits for the bucket's next pass. With one bucket these are passes over the table.
    Pass p over the table takes from each bucket the batches that p + 1 passes fill and p did not, in a shuffled order.
    """

    def __init__(self, counts: Sequence[int], size: int, seed: int, by: str = "rows", bucket_of: np.ndarray | None = None) -> None:
        """counts: rows of each shard. by: see pass_order. bucket_of: the bucket of each row, int [N]; None = all in one."""
        if by not in {"rows", "shards"}:
            raise UserError(f"scale.order is {by!r}; it is `rows` or `shards`.")
        self.counts, self.size, self.seed, self.by = tuple(counts), size, seed, by
        self.bucket_of = np.zeros(sum(counts), np.uint8) if bucket_of is None else bucket_of
        self.sizes = np.bincount(self.bucket_of).tolist()
        self._orders: dict[int, list[np.ndarray]] = {}
        self._plans: dict[int, list[Batch]] = {}

    def rows(self, index: int) -> np.ndarray:
        """The rows of batch `index`, counted from the start of training: int64 [size]."""
        bucket, number = self.batch(index)
        places = np.arange(number * self.size, (number + 1) * self.size)
        passes, within = np.divmod(places, self.sizes[bucket])
        return np.array([self._order(p)[bucket][w] for p, w in zip(passes.tolist(), within.tolist(), strict=True)])

    def batch(self, index: int) -> Batch:
        """The bucket of batch `index`, and its number among the bucket's."""
        passing = index * self.size // len(self.bucket_of)  # at the earliest
        while self._filled(passing + 1) <= index:
            passing += 1
        return self._plan(passing)[index - self._filled(passing)]

    def _filled(self, passes: int) -> int:
        """Batches that so many passes fill."""
        return sum(passes * rows // self.size for rows in self.sizes)

    def _plan(self, passing: int) -> list[Batch]:
        if passing not in self._plans:
            filled = [(passing * rows // self.size, (passing + 1) * rows // self.size) for rows in self.sizes]
            buckets = np.repeat(np.arange(len(filled)), [last - first for first, last in filled])
            buckets = np.random.default_rng((self.seed, passing, 1)).permutation(buckets)
            following = [first for first, _ in filled]
            plan = []
            for bucket in buckets.tolist():
                plan.append(Batch(bucket, following[bucket]))
                following[bucket] += 1
            self._plans = {passing: plan}
        return self._plans[passing]

    def _order(self, passing: int) -> list[np.ndarray]:
        """Each bucket's rows in the order of a pass."""
        if passing not in self._orders:
            order = pass_order(passing, self.counts, self.seed, self.by)
            kept = dict(list(self._orders.items())[-1:])
            buckets = self.bucket_of[order]
            self._orders = kept | {passing: [order[buckets == bucket] for bucket in range(len(self.sizes))]}
        return self._orders[passing]
