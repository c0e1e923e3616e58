"""``/metrics`` for Prometheus: every worker of every gateway, whichever process answers.

A scrape reads the heartbeats, so a figure is at most a few seconds old. Counters belong to one worker process (labels
``gateway`` and ``worker``, its process id) and only grow; a restarted worker is a new series.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

from litestar import Controller, Response, get
from litestar.openapi.datastructures import ResponseSpec
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
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
from proxy_core.histogram import IN_A_DOUBLING, starts_at_ms

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
        yield self._added_time()
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
        sent = CounterMetricFamily(
            "sentinel_upstream_sent_bytes", "sent to the upstream, heads included", labels=OF_WORKER
        )
        received = CounterMetricFamily(
            "sentinel_upstream_received_bytes", "received from the upstream, heads included", labels=OF_WORKER
        )
        for _, vitals in self._found:
            labels = _labels(vitals)
            sent.add_metric(labels, vitals.bytes_in)
            received.add_metric(labels, vitals.bytes_out)
            dropped.add_metric(labels, vitals.batches_dropped)
            for name, count in sorted(vitals.counts.items()):
                if name == "requests":
                    requests.add_metric(labels, count)
                elif name.startswith(ANSWERED):
                    answers.add_metric([*labels, name.removeprefix(ANSWERED)], count)
                else:
                    outcomes.add_metric([*labels, name], count)
        yield from (requests, answers, outcomes, dropped, sent, received)

    def _added_time(self) -> Metric:
        family = HistogramMetricFamily(
            "sentinel_added_seconds",
            "how long requests that passed were held until it was decided that they may",
            labels=OF_WORKER,
        )
        for _, vitals in self._found:
            if vitals.added_time:
                family.add_metric(_labels(vitals), _cumulated(vitals.added_time), None)
        return family

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
    yield GaugeMetricFamily(
        "sentinel_event_stream_lag_seconds", "for how long the oldest of them has been waiting", value=events.lag_s
    )
    yield GaugeMetricFamily("sentinel_event_stream_dead", "batches that could not be understood", value=events.dead)


def _cumulated(counts: Sequence[int]) -> list[tuple[str, float]]:
    """At every doubling, as Prometheus counts: how many took no longer. The last bucket has no upper end."""
    sums = list(itertools.accumulate(counts))
    bounds = range(IN_A_DOUBLING, len(counts), IN_A_DOUBLING)
    ends = [*((f"{starts_at_ms(end) / 1000:g}", sums[end - 1]) for end in bounds), ("+Inf", sums[-1])]
    return [(end, float(count)) for end, count in ends]


def _labels(vitals: Vitals) -> list[str]:
    return [vitals.name, str(vitals.pid)]
