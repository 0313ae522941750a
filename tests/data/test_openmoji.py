"""The drawings: folded, split by kin, recoloured by families, with masks that fit their pixels."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data import openmoji
from src.data.palette import FAMILIES, SHADE, recolouring, to_rgb, word


def find(identity: str) -> openmoji.Drawing:
    return next(d for d in openmoji.drawings() if d.identity == identity)


def test_variants_of_skin_and_flags_are_folded_away() -> None:
    drawings = openmoji.drawings()
    assert 2000 < len(drawings) < 2300
    assert len({d.identity for d in drawings}) == len(drawings)
    assert not any(tone in d.identity.split("-") for d in drawings for tone in openmoji.SKIN_TONES)


def test_kin_stay_in_one_split() -> None:
    woman, man = find("1F469-200D-1F680"), find("1F468-200D-1F680")
    assert woman.kin == man.kin
    sides = {openmoji.split_of(d.kin, 0.12) for d in openmoji.drawings()}
    assert sides == {"train", "val"}
    train, val = (set(openmoji.color_keys(s, 2, 0.12)) for s in ("train", "val"))
    assert not train & val and len(train | val) == 2 * len(openmoji.drawings())


def test_a_recolouring_keeps_lines_and_regions_and_changes_colours() -> None:
    drawing = find("1F469-200D-1F9B0")
    plain, other = openmoji.render(drawing, 0, 64, 0), openmoji.render(drawing, 1, 64, 0)
    assert np.array_equal(plain.line, other.line)
    assert np.array_equal(plain.regions > 0, other.regions > 0)
    hair = plain.regions == 1 + next(i for i, p in enumerate(plain.parts) if p["part"] == "hair")
    assert np.abs(plain.color[hair].astype(int) - other.color[hair]).mean() > 20
    assert np.array_equal(openmoji.render(drawing, 1, 64, 0).color, other.color)


def test_regions_have_the_colour_that_their_part_names() -> None:
    rendering = openmoji.render(find("1F469-200D-1F9B0"), 2, 128, 0)
    for i, part in enumerate(rendering.parts, 1):
        pixels = rendering.color[rendering.regions == i]
        shades = np.array([to_rgb(shade) for shade in FAMILIES[part["color"]]])
        assert (np.abs(pixels[:, None] - shades[None]).sum(-1).min(1) < 3).mean() > 0.7


def test_captions_name_person_hair_skin_and_clothes() -> None:
    drawing = find("1F469-200D-1F9B0")
    rendering = openmoji.render(drawing, 0, 64, 0)
    text = openmoji.caption(drawing, rendering.regions, rendering.parts)
    assert text.split(", ")[0] == "woman" and set(text.split(", ")[1:]) == {"orange hair", "yellow skin", "blue clothes"}


def test_no_name_contradicts_a_recolouring() -> None:
    assert not any(word in d.name.split() for d in openmoji.drawings() for word in FAMILIES)


@given(
    st.sets(st.tuples(st.sampled_from(["hair", "skin", "color"]), st.sampled_from(sorted(SHADE))), max_size=12), st.integers(0, 99)
)
def test_recolouring_maps_families_to_other_families(fills: set[tuple[str, str]], seed: int) -> None:
    mapping = recolouring(fills, random.Random(seed))
    for (group, old), new in mapping.items():
        assert SHADE[old][0] != SHADE[new][0]
        for (group2, old2), new2 in mapping.items():
            if group == group2:
                assert (SHADE[old][0] == SHADE[old2][0]) == (SHADE[new][0] == SHADE[new2][0])
    assert ("color", "#ffffff") not in mapping
    assert mapping == recolouring(fills, random.Random(seed))


@pytest.mark.parametrize(("colour", "name"), [("#FFF", "white"), ("#1e50a0", "blue"), ("#fe0000", "red"), ("#000000", "black")])
def test_colour_words(colour: str, name: str) -> None:
    assert word(colour) == name
