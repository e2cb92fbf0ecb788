"""Which frames a network sees: plain integers, no pixels."""

import numpy as np

from rgbflow.errors import InputError


def segment_starts(
    num_items: int, num_segments: int, snippet_length: int, offsets: np.ndarray | None = None
) -> np.ndarray:
    """First index of the snippet taken from each of S equal parts of a clip (Wang et al. 2016, TSN, section 3.1).

    Args:
        num_items: frames (rgb) or flow fields (flow) of the clip.
        num_segments: S.
        snippet_length: items from the first of a snippet to its last, `StreamSpec.span`.
        offsets: (S,) float in [0, 1), the place inside each part; None takes the middle, as all evaluation does.

    Returns:
        (S,) int64, sorted; every start + snippet_length is at most num_items. A clip with fewer places than segments
        repeats some of them.

    Raises:
        InputError: if the clip is shorter than one snippet.

    >>> segment_starts(num_items=30, num_segments=3, snippet_length=10)
    array([ 3, 10, 17])
    """
    places = num_items - snippet_length + 1
    if places < 1:
        raise InputError(f"a snippet of {snippet_length} does not fit into a clip of {num_items}: use a longer clip")
    if offsets is None:
        offsets = np.full(num_segments, 0.5)
    return np.floor((np.arange(num_segments) + offsets) * places / num_segments).astype(np.int64)


def snippet_indices(
    starts: np.ndarray, stack_length: int, stride: float = 1, num_items: int | None = None
) -> np.ndarray:
    """All indices of the snippets that begin at `starts`: (S, L) int64; L is `stack_length`.

    A stride need not be whole: each place is rounded. The last of `num_items` stands in for those after it.

    >>> snippet_indices(np.array([0, 4]), 3)
    array([[0, 1, 2],
           [4, 5, 6]])
    >>> snippet_indices(np.array([0, 4]), 3, stride=2)
    array([[0, 2, 4],
           [4, 6, 8]])
    >>> snippet_indices(np.array([0]), 4, stride=5 / 3, num_items=5)
    array([[0, 2, 3, 4]])
    """
    indices = starts[:, None] + np.round(stride * np.arange(stack_length)).astype(np.int64)
    return indices if num_items is None else np.minimum(indices, num_items - 1)
