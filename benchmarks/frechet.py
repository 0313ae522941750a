"""Frechet distance through symmetric eigenvalues against clean-fid's matrix square root, and the low-rank route.

python -m benchmarks.frechet          one core: OMP_NUM_THREADS=1 python -m benchmarks.frechet
"""

import time
import warnings
from collections.abc import Callable

import numpy as np

from src.metrics.frechet import bootstrap_interval, distance_of_features, frechet_distance, statistics


def seconds(work: Callable[[], float]) -> tuple[float, float]:
    """Wall-clock seconds of one call, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def features(rng: np.random.Generator, rows: int, dimensions: int) -> np.ndarray:
    """Correlated features whose spectrum falls like that of a network's, float64 [rows, dimensions]."""
    scale = 1 / np.sqrt(1 + np.arange(dimensions))
    return rng.normal(size=(rows, dimensions)) * scale + rng.normal(size=(rows, 1)) * 0.1


def main() -> None:
    from cleanfid.fid import frechet_distance as cleanfid_distance

    warnings.simplefilter("ignore", DeprecationWarning)  # clean-fid calls sqrtm in a way that SciPy is about to drop
    rng = np.random.default_rng(0)

    gaussians = (*statistics(features(rng, 4096, 2048)), *statistics(1.1 * features(rng, 4096, 2048)))
    eigen, ours = seconds(lambda: frechet_distance(*gaussians))
    root, theirs = seconds(lambda: cleanfid_distance(*gaussians))
    print(f"2048 dimensions: eigenvalues {eigen:.2f} s, clean-fid {root:.2f} s, ratio {root / eigen:.1f}")
    print(f"    their distances: {ours:.6f}, {theirs:.6f}")

    a, b = features(rng, 64, 1280), 1.1 * features(rng, 440, 1280)
    low_rank, short = seconds(lambda: distance_of_features(a, b))
    eigen, full = seconds(lambda: frechet_distance(*statistics(a), *statistics(b)))
    root, theirs = seconds(lambda: cleanfid_distance(*statistics(a), *statistics(b)))
    print(f"64 and 440 samples, 1280 dimensions: low rank {low_rank:.4f} s, eigenvalues {eigen:.2f} s, clean-fid {root:.2f} s")
    print(f"    ratios {eigen / low_rank:.0f} and {root / low_rank:.0f}")
    print(f"    their distances: {short:.6f}, {full:.6f}, {theirs:.6f}")

    for rows in (64, 500):
        many = features(rng, rows, 1280)
        start = time.perf_counter()
        bootstrap_interval(many, b, repeats=20)
        print(f"bootstrap, 20 repeats, {rows} and 440 samples: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
