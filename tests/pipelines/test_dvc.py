"""The DVC pipeline, in a clone, as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

SMALL = {
    "scale": "smoke",
    "guidance": [2],
    "families": {
        "deform": ["model=deform epochs=1"],
        "shuffle": ["model=shuffle epochs=1"],
        "noisy": ["noisy=true epochs=1"],
        "dual": ["dual=4 epochs=1"],
        "cls": ["model=cls epochs=1"],
    },
    "table2": {"runs": ["runs/{scale}/noisy/Noisy-0 (1 epochs)"], "config": {"sampler": "karras", "gs": [2]}},
    "finished": {
        "runs": ["backbone/demo/noisy", "backbone/demo/cls"],
        "config": {"sampler": "vp", "gs": [2], "scale.evaluation.images": 8},
    },
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone") / "a clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    return folder


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    binaries = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "COLORIZE_BACKBONE": "backbone/demo"}
    return subprocess.run(
        [str(binaries / "dvc"), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_bare_repro_trains_no_backbone(clone: Path) -> None:
    graph = dvc(clone, "dag", "--dot")
    assert '"train@shuffle" -> "evaluate@shuffle"' in graph.stdout
    dry = dvc(clone, "repro", "--dry")
    assert "pipelines.column color" in dry.stdout and "pipelines.backbone" not in dry.stdout


def test_the_whole_pipeline_at_scale_smoke(clone: Path) -> None:
    params = yaml.safe_load((clone / "params.yaml").read_text()) | SMALL
    (clone / "params.yaml").write_text(yaml.safe_dump(params))
    first = dvc(clone, "repro")
    assert first.returncode == 0, first.stdout + first.stderr
    out = clone / "reports/smoke"
    cells = json.loads((out / "table1.json").read_text())["cells"]
    assert len(cells) == 5 and all(cell["ours"]["FD-EffNet"]["value"] > 0 for cell in cells)
    assert {p.name for p in (out / "figures").iterdir()} >= {"ablation_grid.png", "guidance_grid.png"}
    assert "not run yet" in (out / "table2.md").read_text()

    again = dvc(clone, "repro")
    assert "Running stage" not in again.stdout and "up to date" in again.stdout

    (clone / "params.yaml").write_text(yaml.safe_dump(params | {"guidance": [1, 3]}))
    changed = dvc(clone, "repro", "--dry")
    would_run = {line.split("'")[1] for line in changed.stdout.splitlines() if line.startswith("Running stage")}
    assert would_run == {*(f"evaluate@{f}" for f in SMALL["families"]), "report"}
