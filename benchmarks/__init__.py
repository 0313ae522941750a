"""Each performance claim, runnable: `python -m benchmarks.<name>` prints ratios of one run."""
