"""Real drawings with their regions."""

import pytest

from src.validation import Drawing, held_out


@pytest.fixture(scope="session")
def drawings() -> list[Drawing]:
    return held_out(12, 64, 0, 0.12)
