"""``/metrics`` for Prometheus: every worker of every gateway, whichever process answers.

A scrape reads the heartbeats, so a figure is at most a few seconds old. Counters belong to one worker process (labels
``gateway`` and ``worker``, its process id) and only grow; a restarted worker is a new series.
"""

from collections.abc import Callable, Iterator

from litestar import Controller, Response, get
from litestar.openapi.datastructures import ResponseSpec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from admin_api import gateways
from admin_api.actors import Scope
from admin_api.gateways import Worker
from admin_api.guards import requires
from admin_api.openapi import problems
from admin_api.rooms import AdminRooms
from admin_api.schemas.gateways import StreamView
from proxy_core.errors import StoreUnavailable
from proxy_core.heartbeat import Vitals

MEDIA_TYPE = "text/plain; version=0.0.4"
"""Litestar adds the charset."""

OF_WORKER = ("gateway", "worker")
ANSWERED = "answered_"

GAUGES: tuple[tuple[str, str, Callable[[Vitals], float]], ...] = (
    ("sentinel_worker_start_time_seconds", "when the worker started, Unix seconds", lambda each: each.started_at),
    ("sentinel_worker_draining", "1 while the worker only finishes what is open", lambda each: each.draining),
    ("sentinel_settings_version", "version of the live settings in force", lambda each: each.settings_version),
    ("sentinel_exchanges_open", "requests with the upstream at this moment", lambda each: each.open_exchanges),
    ("sentinel_worker_redis_up", "1 if the worker reaches Redis", lambda each: each.redis_available),
    ("sentinel_worker_postgresql_up", "1 if the worker reaches PostgreSQL", lambda each: each.postgresql_available),
    ("sentinel_touches_pending", "bindings with uses that were not sent yet", lambda each: each.touches_pending),
    ("sentinel_intercepts_pending", "intercepts that were not sent yet", lambda each: each.intercepts_pending),
    ("sentinel_batches_unconfirmed", "event batches not known to be stored", lambda each: each.batches_unconfirmed),
    ("sentinel_spool_bytes", "event batches that wait on disk", lambda each: each.spooled_bytes),
)


class MetricsController(Controller):
    path = "/metrics"
    tags = ("gateways",)

    @get(
        "/",
        guards=[requires(Scope.METRICS_READ)],
        summary="Metrics of every gateway worker, for Prometheus",
        responses=problems()
        | {
            200: ResponseSpec(
                str, generate_examples=False, media_type="text/plain", description="Prometheus' text format 0.0.4"
            )
        },
    )
    async def read(self, rooms: AdminRooms) -> Response[bytes]:
        """Answers without Redis too: ``sentinel_redis_up`` is 0 then, and there is nothing of the workers."""
        found: list[Worker] = []
        events: StreamView | None = None
        try:
            found = [worker for worker in await gateways.workers(rooms.redis) if worker.alive]
            events = await gateways.stream(rooms.redis)
        except StoreUnavailable:
            pass
        registry = CollectorRegistry()
        registry.register(HeartbeatCollector(found, events))
        return Response(generate_latest(registry), media_type=MEDIA_TYPE)


class HeartbeatCollector(Collector):
    """What one scrape found. ``events`` None: Redis did not answer."""

    def __init__(self, found: list[Worker], events: StreamView | None) -> None:
        self._found = [(worker, worker.vitals) for worker in found if worker.vitals is not None]
        self._events = events

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "sentinel_redis_up", "1 if the admin API reaches Redis", value=float(self._events is not None)
        )
        if self._events is not None:
            yield from _stream(self._events)
        yield from self._counters()
        yield from self._gauges()

    def _counters(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("sentinel_requests", "requests that came", labels=OF_WORKER)
        answers = CounterMetricFamily(
            "sentinel_upstream_answers", "answers of the upstream by class of status", labels=(*OF_WORKER, "class")
        )
        outcomes = CounterMetricFamily(
            "sentinel_outcomes",
            "what became of requests: allowed, bound, observed, a reason of refusal …",
            labels=(*OF_WORKER, "outcome"),
        )
        dropped = CounterMetricFamily(
            "sentinel_batches_dropped", "event batches that were lost for want of room", labels=OF_WORKER
        )
        for _, vitals in self._found:
            labels = _labels(vitals)
            dropped.add_metric(labels, vitals.batches_dropped)
            for name, count in sorted(vitals.counts.items()):
                if name == "requests":
                    requests.add_metric(labels, count)
                elif name.startswith(ANSWERED):
                    answers.add_metric([*labels, name.removeprefix(ANSWERED)], count)
                else:
                    outcomes.add_metric([*labels, name], count)
        yield from (requests, answers, outcomes, dropped)

    def _gauges(self) -> Iterator[Metric]:
        for name, text, read in GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=OF_WORKER)
            for _, vitals in self._found:
                gauge.add_metric(_labels(vitals), float(read(vitals)))
            yield gauge
        age = GaugeMetricFamily("sentinel_heartbeat_age_seconds", "since the worker's last heartbeat", labels=OF_WORKER)
        about = InfoMetricFamily("sentinel_worker", "what runs there", labels=OF_WORKER)
        for worker, vitals in self._found:
            age.add_metric(_labels(vitals), worker.age_s)
            about.add_metric(_labels(vitals), {"version": vitals.version})
        yield from (age, about)


def _stream(events: StreamView) -> Iterator[Metric]:
    yield GaugeMetricFamily("sentinel_event_stream_batches", "event batches that wait", value=events.length)
    yield GaugeMetricFamily("sentinel_event_stream_pending", "of them, in a worker's hands", value=events.pending)
    yield GaugeMetricFamily("sentinel_event_stream_dead", "batches that could not be understood", value=events.dead)


def _labels(vitals: Vitals) -> list[str]:
    return [vitals.name, str(vitals.pid)]
