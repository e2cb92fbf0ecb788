"""The counters of the service, in the form that Prometheus reads."""

from collections.abc import Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)  # seconds


class Metrics:
    """The counters of one service; base units, bounded labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time, open files; tells replicas apart
        counter, histogram = (
            partial(Counter, registry=self.registry),
            partial(Histogram, buckets=BUCKETS, registry=self.registry),
        )
        self.sessions = Gauge("rgbflow_sessions", "Open sessions", registry=self.registry)
        self.refused = counter("rgbflow_sessions_refused_total", "Refused sessions", ["reason"])
        self.frames = counter(
            "rgbflow_frames_total",
            "Frames of clients: seen, unused (nothing new to the networks), dropped (a newer one came), refused",
            ["outcome"],
        )
        self.updates = counter("rgbflow_updates_total", "Updates sent")
        self.events = counter("rgbflow_events_total", "Starts and ends of actions", ["kind"])
        self.stages = histogram("rgbflow_stage_seconds", "Seconds of each stage of an update", ["stage"])
        self.latency = histogram("rgbflow_latency_seconds", "Seconds from a frame's arrival to its update")
        self.predictions = counter("rgbflow_predictions_total", "Uploaded videos", ["outcome"])

    def count_update(self, latency_seconds: float, seconds: Mapping[str, float]) -> None:
        self.updates.inc()
        self.latency.observe(latency_seconds)
        for stage, value in seconds.items():
            self.stages.labels(stage.replace(" ", "_")).observe(value)

    def text(self) -> bytes:
        """The page that Prometheus scrapes."""
        return generate_latest(self.registry)
