"""A live recogniser on a feed: one thread takes every frame, another runs the networks on the newest state."""

import threading
from collections.abc import Callable, Iterator

from rgbflow.live.feed import Feed
from rgbflow.live.session import LiveRecognizer, Update


def watch(
    live: LiveRecognizer,
    feed: Feed,
    report: Callable[[str], None] = lambda line: None,
    newer: Callable[[], LiveRecognizer | None] = lambda: None,
) -> Iterator[Update]:
    """Yield updates as fast as the networks answer, each for the newest frame, until the feed ends.

    While the networks are busy, frames are still taken and their flow computed, so that no motion is missed; the feed
    drops frames that come faster than flow. There is no queue, so an update is late by at most one frame and one
    update. If no frame comes for longer than a gap, the current action ends.

    Args:
        live: the recogniser.
        feed: the feed of its camera.
        report: called with one line when no update comes although frames do.
        newer: gives a recogniser to go on with, or None; asked between updates. The current action ends then.

    Raises:
        InputError: for the reasons of `Feed.take` and `LiveRecognizer.see`.
    """
    frames = _FrameThread(live, feed)
    frames.thread.start()
    is_reported = False
    try:
        while not frames.is_over:
            if (other := newer()) is not None:
                other.take_over(live)
                former, frames.live, live = live, other, other
                if (update := former.end_action()) is not None:
                    yield update
            # With a limit, since a thread that waits without one can't be interrupted on every system.
            if came := frames.has_news.wait(0.1):  # else what comes just now would be cleared unseen
                frames.has_news.clear()
            if (update := live.update() if came else live.end_after_silence()) is not None:
                yield update
            trouble = live.trouble
            if trouble and not is_reported:
                report(trouble)
            is_reported = bool(trouble)
        if (update := live.update()) is not None:  # what came while the last one was made
            yield update
        if frames.error is not None:
            raise frames.error
    finally:
        feed.close()
        frames.thread.join(timeout=1.0)


class _FrameThread:
    """The thread that takes the frames."""

    def __init__(self, live: LiveRecognizer, feed: Feed):
        self.live, self.feed = live, feed
        self.has_news = threading.Event()
        self.is_over = False
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, name="rgbflow-frames", daemon=True)

    def _run(self) -> None:
        try:
            while (arrival := self.feed.take()) is not None:
                if self.live.see(arrival.pixels, arrival.pts_seconds, arrival.arrived):
                    self.has_news.set()
        except Exception as error:  # raised where the updates are taken
            self.error = error
        self.is_over = True
        self.has_news.set()
