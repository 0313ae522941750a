"""Stages that train what the demo's baselines are made of, out of reach of a bare `dvc repro`:
`dvc repro pipelines/baselines/dvc.yaml` runs them.
"""
