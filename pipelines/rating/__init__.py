"""Stages of the rating study, out of reach of a bare `dvc repro`: `dvc repro pipelines/rating/dvc.yaml:items` runs one."""
