"""The DVC pipeline, in a clone, as a user runs it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
import yaml

from pipelines import code_hash, column, continued
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
    "table2": {
        "runs": ["runs/{scale}/noisy/Noisy-0 (1 epochs)"],
        "baselines": ["text", "ip_adapter", "reference_only"],
        "config": {"sampler": "karras", "gs": [2]},
    },
    "finished": {
        "runs": ["backbone/demo/noisy", "backbone/demo/cls"],
        "config": {"sampler": "vp", "gs": [2], "scale.evaluation.images": 8},
    },
    "edits": {"config": {"drawings": 8, "each": 1, "target_scales": [6, 12], "sampler.steps": 2}},
    "validation": {"drawings": 8},
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
    assert "pipelines.column color" in dry.stdout
    assert "pipelines.backbone" not in dry.stdout and "pipelines.baselines.part" not in dry.stdout


def test_each_figure_is_made_alone_and_none_by_a_bare_repro(clone: Path) -> None:
    assert "pipelines.figures" not in dvc(clone, "repro", "--dry").stdout
    graph = dvc(clone, "dag", "--dot", "pipelines/study/dvc.yaml:ablation@12").stdout
    assert '"train@shuffle" -> "pipelines/study/dvc.yaml:ablation@12"' in graph
    graph = dvc(clone, "dag", "--dot", "pipelines/study/dvc.yaml:figures@10").stdout
    assert '"sketch@val" -> "pipelines/study/dvc.yaml:figures@10"' in graph and "train@" not in graph and "vae" not in graph
    listed = {str(item) for stage in stages("pipelines/study/dvc.yaml").values() for item in stage["foreach"]}
    assert listed == {path.stem.removeprefix("fig") for path in (ROOT / "conf/figure").glob("*.yaml")}


def test_the_rating_study_is_not_reached_by_a_bare_repro_and_says_that_nobody_rated(clone: Path) -> None:
    assert "pipelines.rating" not in dvc(clone, "repro", "--dry").stdout
    graph = dvc(clone, "dag", "--dot", "pipelines/rating/dvc.yaml:items").stdout
    assert '"sketch@val" -> "pipelines/rating/dvc.yaml:items"' in graph and "train@" not in graph and "vae" not in graph
    result = dvc(clone, "repro", "pipelines/rating/dvc.yaml:ratings")
    assert result.returncode != 0 and "error: There are no ratings: rating/ratings.db does not exist." in result.stderr
    assert not (clone / "reports/rating/README.md").exists()


def test_the_whole_pipeline_at_scale_smoke(clone: Path) -> None:
    params = yaml.safe_load((clone / "params.yaml").read_text()) | SMALL
    (clone / "params.yaml").write_text(yaml.safe_dump(params))
    first = dvc(clone, "repro")
    assert first.returncode == 0, first.stdout + first.stderr
    out = clone / "reports/smoke"
    cells = json.loads((out / "table1.json").read_text())["cells"]
    assert len(cells) == 5 and all(cell["ours"]["FD-EffNet"]["value"] > 0 for cell in cells)
    assert {p.name for p in (out / "figures").iterdir()} >= {"ablation_grid.png", "guidance_grid.png"}
    table2 = json.loads((out / "table2.json").read_text())["cells"]
    ran = {cell["model"] for cell in table2 if cell["gs"] is None and cell["ours"]}
    assert ran == {
        "CN-Anime + Anything v3, text, GS-9",
        "CN-Anime + Anything v3 + IP-Adapter, GS-3",
        "CN-Anime + Anything v3 + Reference-only, GS-9",
    }
    assert "not run here" in (out / "table2.md").read_text() and (out / "figures/baselines_grid.png").exists()

    figure = dvc(clone, "repro", "pipelines/study/dvc.yaml:figures@9")
    assert figure.returncode == 0, figure.stdout + figure.stderr
    assert {p.name for p in (out / "paper").iterdir()} == {"figure-9.png", "figure-9-light.webp", "figure-9.json"}
    another = dvc(clone, "repro", "pipelines/study/dvc.yaml:ablation@13")
    assert "keep_epochs=[1,2,4] in its sweep in params.yaml" in another.stderr

    again = dvc(clone, "repro")
    assert "Running stage" not in again.stdout and "up to date" in again.stdout

    (clone / "params.yaml").write_text(yaml.safe_dump(params | {"guidance": [1, 3]}))
    changed = dvc(clone, "repro", "--dry")
    would_run = {line.split("'")[1] for line in changed.stdout.splitlines() if line.startswith("Running stage")}
    assert would_run == {*(f"evaluate@{f}" for f in SMALL["families"]), "report"}


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the code that stages look at."""
    shutil.copytree(ROOT / "src", tmp_path / "src")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(file: str) -> None:
    with Path(file).open("a") as f:
        f.write("# changed\n")


def test_a_column_continues_until_its_code_changes(copied: Path, data_root: Path) -> None:
    shutil.copytree(data_root / "val/color", copied / "data/val/color")

    def built() -> int:
        column.main(["sketch", "val", "data.root=data"])
        return (copied / "data/val/sketch/00000.tar").stat().st_mtime_ns

    first = built()
    assert built() == first
    change("src/data/lines.py")
    assert built() > first


def test_what_other_code_made_is_thrown_away(copied: Path) -> None:
    run = copied / "runs/Shuffle-0"

    def kept() -> bool:
        continued(copied / "runs", code_hash("train"))
        return run.exists()

    run.mkdir(parents=True)
    assert not kept()  # made before its code was noted
    run.mkdir()
    assert kept()
    change("src/sampling/guidance.py")
    assert kept()  # no code that trains
    change("src/model/unet.py")
    assert not kept()


# What says where and how a result is made, not what it is.
HOW = {
    "src",
    *(
        f"src.{name}"
        for name in ("config", "data.engines", "data.storage", "entry", "files", "grids", "launch", "runs", "tracking")
    ),
}


# What chooses the pairs of tables; figures have lists of their own.
FOR_TABLES = ("src.data.loader", "src.data.buckets", "src.data.order", "src.data.tokens")


def stages(file: str) -> dict:
    return yaml.safe_load((ROOT / file).read_text())["stages"]


@pytest.mark.parametrize(
    ("stage", "module", "without_effect"),
    [
        ("color", "src.data.openmoji", ()),
        ("color", "src.data.color", ()),
        ("color", "src.data.duplicates", ()),
        ("sketch", "src.data.derived", ("src.data.mls", "src.data.mls_batch")),
        ("reference", "src.data.derived", ("src.data.lines",)),
        ("latent", "src.model.features", ("src.backbone.clip",)),
        ("tokens", "src.model.features", ("src.backbone.vae",)),
        ("tokens_deform", "src.model.features", ("src.backbone.vae",)),
        ("train", "src.train", ("src.held_out", "src.methods", "src.sampling")),  # for MLflow's pictures
        ("evaluate", "src.evaluate", ("src.baselines",)),  # for the rows of other methods
        ("table2", "src.evaluate", ("src.baselines",)),
        ("finished", "src.evaluate", ("src.baselines",)),
        ("baselines", "src.evaluate", ()),
        ("edits", "src.edits", ("src.edits_page", "src.document", "src.data.lines")),
        ("validate_metrics", "src.validation", ()),
        ("validate_metrics", "src.backbone.parts", ()),
        ("figures", "src.figures", (*FOR_TABLES, "src.baselines")),
        ("compared", "src.figures", FOR_TABLES),
        ("ablation", "src.figures", FOR_TABLES),
        ("items", "src.app.preparation", ()),
        ("ratings", "src.app.rating_charts", ()),
        ("ratings", "src.document", ()),
    ],
)
def test_the_deps_name_all_code_that_a_result_depends_on(stage: str, module: str, without_effect: tuple[str, ...]) -> None:
    entry = (stages("dvc.yaml") | stages("pipelines/study/dvc.yaml") | stages("pipelines/rating/dvc.yaml"))[stage]
    named = [dep.removesuffix(".py").replace("/", ".") for dep in entry.get("do", entry)["deps"] if dep.startswith("src/")]
    used = {module, *grimp.build_graph("src").find_upstream_modules(module)} - HOW

    def below(name: str, tops: tuple[str, ...] | list[str]) -> bool:
        return any(name == top or name.startswith(f"{top}.") for top in tops)

    assert {name for name in used if not below(name, [*named, *without_effect])} == set()
