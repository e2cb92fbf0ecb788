"""Several live recognisers share one set of networks: snippets that wait at the same time form one batch."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from rgbflow.errors import InputError
from rgbflow.networks.engine import Engine, StreamAnswer
from rgbflow.stream import Crops, Stream


@dataclass(frozen=True, eq=False)
class _Request:
    stream: Stream
    snippets: np.ndarray
    crops: Crops
    with_features: bool
    caller: int = field(default_factory=threading.get_ident)
    arrived: float = field(default_factory=time.monotonic)
    answer: Future[StreamAnswer] = field(default_factory=Future)

    @property
    def kind(self) -> tuple:
        """Requests of one kind can go through a network together."""
        return self.stream, self.crops, self.with_features, self.snippets.shape[1:]


def _awaited(request: _Request) -> StreamAnswer:
    """The answer, or the error, with the seconds waited for it."""
    began = time.monotonic()
    return replace(request.answer.result(), seconds=time.monotonic() - began)


def _rows(answer: StreamAnswer, start: int, end: int) -> StreamAnswer:
    """The part of an answer for the snippets from start to before end."""
    features = None if answer.features is None else answer.features[start:end]
    return replace(answer, logits=answer.logits[start:end], features=features)


class SharedEngine:
    """Runs the networks for several live recognisers, in one thread; a context manager.

    The request that has waited longest is always next, together with all others of the same stream and size. A caller
    waits for its answer before it asks again, so every caller gets its turn; with more callers, each gets fewer
    answers, not older ones.

    Args:
        engine: the recogniser's engine.
        max_batch: the most snippets in one pass through a network.
        deadline_seconds: the longest that the first request waits for others; without other callers it doesn't wait.
    """

    def __init__(self, engine: Engine, max_batch: int = 8, deadline_seconds: float = 0.005):
        if max_batch < 1:
            raise InputError(f"max_batch ({max_batch}) must be at least 1: 8 is usual")
        if not 0 <= deadline_seconds <= 1:
            raise InputError(f"deadline_seconds ({deadline_seconds}) must be in 0…1: 0.005 is usual")
        self.name, self.networks = engine.name, engine.networks
        self._engine, self._max_batch, self._deadline = engine, max_batch, deadline_seconds
        self._waiting: deque[_Request] = deque()
        self._callers: dict[int, float] = {}  # by thread: when it last asked
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="rgbflow-engine", daemon=True)
        self._thread.start()

    def answers(
        self, snippets: Mapping[Stream, np.ndarray], crops: Crops = 1, with_features: bool = False
    ) -> dict[Stream, StreamAnswer]:
        """See `Engine.answers`; may be called from many threads, and blocks until the answers are there.

        All streams of a call wait at the same time, so the caller waits for one turn only. The `seconds` of a stream
        are the time that the caller waited for it after the previous stream.
        """
        requests = [_Request(stream, given, crops, with_features) for stream, given in snippets.items()]
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the shared engine is closed")
            self._callers.update({request.caller: request.arrived for request in requests})
            self._waiting.extend(requests)
            self._changed.notify_all()
        return {request.stream: _awaited(request) for request in requests}

    def close(self) -> None:
        """Answer what waits, then stop."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> "SharedEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _serve(self) -> None:
        while batch := self._next_batch():
            try:
                snippets = np.concatenate([request.snippets for request in batch])
                stream, crops, with_features = batch[0].stream, batch[0].crops, batch[0].with_features
                answer = self._engine.answers({stream: snippets}, crops, with_features)[stream]
                if len(answer.logits) != len(snippets):
                    raise RuntimeError(f"{self.name} gave {len(answer.logits)} answers to {len(snippets)} snippets")
            except Exception as error:  # the callers raise it, each in its own thread
                for request in batch:
                    request.answer.set_exception(error)
                continue
            end = 0
            for request in batch:
                start, end = end, end + len(request.snippets)
                request.answer.set_result(_rows(answer, start, end))

    def _next_batch(self) -> list[_Request]:
        """The requests to serve next, in the order they came; none when the engine is closed and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if not self._waiting:
                return []
            first = self._waiting[0]
            self._changed.wait_for(
                lambda: self._is_full(first), timeout=max(0.0, first.arrived + self._deadline - time.monotonic())
            )
            batch: list[_Request] = []
            size = 0
            for request in [one for one in self._waiting if one.kind == first.kind]:
                size += len(request.snippets)
                if batch and size > self._max_batch:
                    break
                batch.append(request)
                self._waiting.remove(request)
            return batch

    def _is_full(self, first: _Request) -> bool:
        """Whether waiting longer is useless: the batch is full, or all recent callers are waiting already."""
        now = time.monotonic()
        self._callers = {caller: last for caller, last in self._callers.items() if now - last < 1}
        size = sum(len(one.snippets) for one in self._waiting if one.kind == first.kind)
        return (
            self._is_closed
            or size >= self._max_batch
            or len({one.caller for one in self._waiting}) >= len(self._callers)
        )
