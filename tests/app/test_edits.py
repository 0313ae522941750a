"""The list of edits, and the thresholds that a click proposes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.app.edits import added, deleted, first_edit, moved_down, moved_up, new_edit, ordered, spec_of, switched
from src.app.maps import map_of, proposed, region
from src.app.safety import read_picture
from src.app.studio import Studio
from src.files import UserError
from src.manipulation import EditError
from tests.app.conftest import EXAMPLES

share = st.floats(0, 1)


@given(st.lists(share, min_size=4, max_size=4).map(sorted), st.integers(0, 3), share)
def test_a_moved_threshold_takes_along_the_ones_that_it_passes(thresholds: list[float], moved: int, to: float) -> None:
    thresholds[moved] = to
    result = ordered(thresholds, moved)
    assert result == sorted(result) and result[moved] == to
    assert all(b in (a, to) for a, b in zip(thresholds, result, strict=True))


def test_edits_are_added_moved_switched_off_and_deleted() -> None:
    edits, chosen = added([first_edit()], 0)[:2]
    assert chosen.value == 1 and len(edits) == 2 and edits[1] == new_edit()
    assert moved_up(edits, 1)[0] == edits[::-1] == moved_down(edits, 0)[0]
    assert moved_up(edits, 0)[0] == edits
    assert [edit["on"] for edit in switched(edits, 1)[0]] == [True, False]
    assert deleted(edits, 0)[0] == [new_edit()] == deleted([first_edit()], 0)[0]
    assert spec_of(new_edit()).keys() == {"target_scale", "enhance", "thresholds"}


@settings(deadline=None)  # scipy is imported on the way
@given(st.integers(0, 2**32 - 1), st.integers(0, 7), st.integers(0, 7), st.sampled_from([0.0, 0.5]))
def test_what_was_clicked_on_changes_by_the_whole_step(seed: int, row: int, column: int, ratio: float) -> None:
    matches = np.random.default_rng(seed).random((8, 8)).astype(np.float32)
    thresholds = proposed(matches, row, column, ratio)
    assert thresholds == sorted(thresholds) and thresholds[0] >= 0 and thresholds[-1] <= 1
    # Thresholds are rounded to what the handles show.
    values = matches[region(matches, row, column)]
    assert (values >= thresholds[3] - 0.006).all() if ratio == 0 else (values <= thresholds[0] + 0.006).all()


def test_the_map_of_an_edit_and_its_zones(studio: Studio) -> None:
    reference = read_picture(str(EXAMPLES / "elf.reference.png"))
    low, high = (
        map_of(studio, "noisy", reference, [{"control": "red hair", "thresholds": thresholds}])
        for thresholds in ([0.1, 0.2, 0.3, 0.4], [0.5, 0.7, 0.8, 0.9])
    )
    assert np.array_equal(low.matches, high.matches) and np.array_equal(low.picture, high.picture)
    assert not np.array_equal(low.zones, high.zones) and low.picture.shape == low.zones.shape == (384, 384, 3)
    assert low.matches.min() >= 0 and low.matches.min() < low.matches.max() <= 1
    assert map_of(studio, "noisy", reference, [{"control": "xylophone"}]).unknown
    with pytest.raises(UserError, match="Say where"):
        map_of(studio, "noisy", reference, [{"control": " "}])
    with pytest.raises(UserError, match="whole picture"):
        map_of(studio, "noisy", reference, [{"control": "everything"}])
    with pytest.raises(EditError):
        map_of(studio, "noisy", reference, [{"control": "red hair", "thresholds": "../../etc"}])
