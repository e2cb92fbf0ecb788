"""When the rgb network has to run again: the content of a frame changes far more rarely than its pixels."""

import cv2
import numpy as np

CELL = 16  # pixels: noise of single pixels cancels out in the mean of a cell
CUT = 12.0  # grey levels (of 255) by which the cells differ on average: another scene
MOVED = 4.0  # grey levels by which the cell that differs most does: something has moved
MOVING_SECONDS = 0.2  # between two looks at a scene in which something moves
STILL_SECONDS = 1.0  # between two looks at a scene in which nothing does


class Scene:
    """Remembers the last frame that the network saw and compares new frames with it.

    The network runs again at once after a cut, after MOVING_SECONDS if something has moved, and after STILL_SECONDS in
    any case.
    """

    def __init__(self):
        self.forget()

    def forget(self) -> None:
        """The next frame is a new scene."""
        self._cells: np.ndarray | None = None
        self._seconds = 0.0

    def needs_look(self, frame: np.ndarray, pts_seconds: float) -> bool:
        """Whether the network has to see this frame; if so, it counts as seen.

        Args:
            frame: (H, W, 3) uint8.
            pts_seconds: its time, not before those of earlier frames.
        """
        size = (max(1, frame.shape[1] // CELL), max(1, frame.shape[0] // CELL))
        cells = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        if self._cells is not None and not self._is_due(np.abs(cells - self._cells), pts_seconds - self._seconds):
            return False
        self._cells, self._seconds = cells, pts_seconds
        return True

    def _is_due(self, change: np.ndarray, age_seconds: float) -> bool:
        age_seconds += 1e-3  # times are rounded
        if change.mean() > CUT or age_seconds >= STILL_SECONDS:
            return True
        return age_seconds >= MOVING_SECONDS and change.max() > MOVED
