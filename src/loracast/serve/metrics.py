"""What Prometheus reads of the service."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counts since the service began, in a registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "loracast_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "loracast_forecast_seconds", "From a forecast's request to its answer.", buckets=SECONDS, registry=registry
        )
        self.batch = Histogram(
            "loracast_batch_requests", "Requests that were drawn together.", buckets=SIZES, registry=registry
        )
        self.drawing = Counter("loracast_drawing_seconds", "Seconds in which paths were drawn.", registry=registry)
        self.paths = Counter("loracast_paths", "Sample paths that were drawn.", registry=registry)
        self.flops = Counter("loracast_flops", "FLOPs of answered forecasts (executed).", registry=registry)
        self.waiting = Gauge("loracast_waiting_requests", "Requests that wait to be drawn.", registry=registry)
        self.adapters = Gauge("loracast_loaded_adapters", "Adapters in memory.", registry=registry)

    def on_batch(self, jobs: int, paths: int, seconds: float) -> None:
        self.batch.observe(jobs)
        self.paths.inc(paths)
        self.drawing.inc(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)
