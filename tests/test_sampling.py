import numpy as np
import pytest

from rgbflow.errors import InputError
from rgbflow.sampling import segment_starts, snippet_indices

rng = np.random.default_rng(0)


@pytest.mark.parametrize("length", range(1, 13))
@pytest.mark.parametrize("num_segments", range(1, 10))
def test_starts_are_sorted_and_inside_for_every_clip_length(num_segments, length):
    for num_items in range(length, 61):
        for offsets in (None, rng.random(num_segments), np.zeros(num_segments), np.full(num_segments, 1 - 1e-9)):
            starts = segment_starts(num_items, num_segments, length, offsets)
            indices = snippet_indices(starts, length)
            assert indices.shape == (num_segments, length)
            assert (np.diff(starts) >= 0).all()
            assert indices.min() >= 0
            assert indices.max() < num_items


def test_each_start_lies_in_its_own_part_of_the_clip():
    for _ in range(100):
        starts = segment_starts(100, 4, 1, rng.random(4))
        assert (starts // 25 == np.arange(4)).all()


def test_middle_places_of_a_long_clip():
    assert segment_starts(100, 4, 1).tolist() == [12, 37, 62, 87]


def test_a_clip_of_one_snippet_repeats_it():
    assert segment_starts(10, 3, 10).tolist() == [0, 0, 0]


def test_a_clip_shorter_than_a_snippet_is_refused():
    with pytest.raises(InputError, match="snippet of 10 does not fit into a clip of 9"):
        segment_starts(9, 1, 10)
