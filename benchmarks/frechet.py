"""Frechet distance through a Cholesky factor against clean-fid's matrix square root, one core each: `python -m benchmarks.frechet`.

Also torch-fidelity's eigenvalues, what the three say where a covariance is singular, the low-rank route, and the bootstrap.
"""

import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np

from src.metrics.frechet import bootstrap_interval, distance_of_features, frechet_distance, statistics


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """CPU seconds of the fastest call: on one core that nothing else uses they are those of the clock."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def features(rng: np.random.Generator, rows: int, dimensions: int) -> np.ndarray:
    """Correlated features whose spectrum falls like that of a network's, float64 [rows, dimensions]."""
    scale = 1 / np.sqrt(1 + np.arange(dimensions))
    return rng.normal(size=(rows, dimensions)) * scale + rng.normal(size=(rows, 1)) * 0.1


def compare(a: np.ndarray, b: np.ndarray) -> None:
    """Prints the seconds of ours, clean-fid and torch-fidelity on the statistics of two sets, and how far off each is."""
    from cleanfid.fid import frechet_distance as cleanfid_distance
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    mu1, sigma1 = statistics(a)
    mu2, sigma2 = statistics(b)
    exact = distance_of_features(a, b)  # below full rank: from the features alone, without a covariance
    ways: dict[str, Callable[[], float]] = {
        "ours": lambda: frechet_distance(mu1, sigma1, mu2, sigma2),
        "clean-fid": lambda: cleanfid_distance(mu1, sigma1, mu2, sigma2),
        "torch-fidelity": lambda: fid_statistics_to_metric(
            {"mu": mu1, "sigma": sigma1}, {"mu": mu2, "sigma": sigma2}, verbose=False
        )[KEY_METRIC_FID],
    }
    print(f"{len(a)} and {len(b)} samples, {a.shape[1]} dimensions: distance {exact:.6f}")
    ours = None
    for name, way in ways.items():
        value = way()  # warms up
        took = seconds(way)
        ours = ours or took
        print(f"    {name:16}{took:8.2f} s{took / ours:7.1f} x{value / exact - 1:12.1e} relative difference", flush=True)


def main() -> None:
    from threadpoolctl import threadpool_limits

    warnings.simplefilter("ignore", DeprecationWarning)  # clean-fid calls sqrtm in a way that SciPy is about to drop
    rng = np.random.default_rng(0)
    with threadpool_limits(1):
        compare(features(rng, 4096, 2048), 1.1 * features(rng, 4096, 2048))
        compare(features(rng, 500, 2048), 1.1 * features(rng, 4096, 2048))

        a, b = features(rng, 64, 1280), 1.1 * features(rng, 440, 1280)
        compare(a, b)
        low_rank = seconds(lambda: distance_of_features(a, b), repeats=5)
        print(f"    from the features, without a covariance: {low_rank:.4f} s")

        for rows in (64, 500):
            many = features(rng, rows, 1280)
            took = seconds(partial(bootstrap_interval, many, b, repeats=20))
            print(f"bootstrap, 20 repeats, {rows} and {len(b)} samples: {took:.2f} s")


if __name__ == "__main__":
    main()
