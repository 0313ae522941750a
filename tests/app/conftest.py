"""The app as it is served, on the shipped demo models; and a small rating study: pictures of noise, two models with text edits and
one without.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from src.app.studio import Studio, checkpoints
from src.app.study import Item, Study, keep_picture, open_study, write_items
from src.data.images import to_png

EXAMPLES = Path("src/app/examples")


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("app"), {name: path for name, path in checkpoints().items() if name in {"noisy", "cls"}})


@pytest.fixture(scope="session")
def address(studio: Studio) -> Iterator[str]:
    """Where the app answers, started once."""
    os.environ["GRADIO_TEMP_DIR"] = str(studio.folder / "uploads")
    from src.app.page import build, serve

    page = build(studio)
    yield serve(page, studio, "127.0.0.1", None, False, None).rstrip("/")
    page.close(verbose=False)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "items"
    folder.mkdir()
    rng = np.random.default_rng(0)

    def picture() -> str:
        return keep_picture(folder, to_png(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)))

    items = []
    for pair in ("cat", "dog", "elf"):
        sketch, reference = picture(), picture()
        for model in ("Noisy", "CLS"):
            items.append(Item(pair, model, sketch, reference, picture(), picture(), "blue hair instead of red hair"))
        items.append(Item(pair, "=T2I()", sketch, reference, picture()))
    write_items(folder, 7, items)
    return folder


@pytest.fixture
def study(tmp_path: Path, pictures: Path) -> Study:
    return open_study(tmp_path / "ratings.db", pictures)
