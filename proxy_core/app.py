"""The data plane's Litestar application: what is Sentinel's own is routed, everything else goes to the `handler`.

The catch-all is the application's own ``__call__``: Litestar's router, exception middleware and ``send`` wrapper
would be paid by every proxied request, and would mangle paths. Only the exact paths of `OWN_PATHS` go through them,
and nothing that an application can have (middleware, hooks, plugins) applies to the rest.
An admin application can be given: it gets what lies below `ADMIN_PREFIX` by the *raw* path. The verdict service is
raw ASGI like the gateway.

The lifespan furnishes the rooms and closes them in reverse order.
"""

import asyncio
import contextlib
import gc
import importlib.metadata
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import structlog
from litestar import HttpMethod, Litestar, Response, route
from litestar.types import LifeSpanScope, Scope

from proxy_core.acceptance import KeyProbe
from proxy_core.admission import Admission
from proxy_core.bindings import Bindings
from proxy_core.cache import Cache, connect
from proxy_core.client_ip import ClientAddressReader
from proxy_core.concurrency import Concurrency
from proxy_core.credentials import Credentials
from proxy_core.events import EventLimits, Events
from proxy_core.handler import Gateway, Rooms
from proxy_core.heartbeat import Heartbeat, Vitals
from proxy_core.intake import Intake, IntakeRooms
from proxy_core.limits import origin, patience, relay_limits, request_limits, upstream_limits
from proxy_core.listeners import stop_new_connections
from proxy_core.live_settings import LiveSettingsFeed
from proxy_core.original import PATH as VERDICT_PATH
from proxy_core.outbox import OutboxLimits
from proxy_core.own_sockets import Clients, bound_stalls
from proxy_core.relay import Relay
from proxy_core.roster import Roster
from proxy_core.settings import Settings
from proxy_core.store import Store
from proxy_core.tasks import Tasks
from proxy_core.time_limit import ROUNDS
from proxy_core.upstream import Upstream
from proxy_core.verdict_service import VerdictRooms, VerdictService
from proxy_core.watch import LOOK_EVERY_S, TICK_S, ClientWatch

log = structlog.get_logger(__name__)

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

DISTRIBUTION = "key-ip-sentinel"
OWN_PATHS = frozenset((b"/health", b"/ready"))
ADMIN_PREFIX = b"/admin/api"
DRAIN_SIGNAL = signal.SIGUSR1
EVENT_CONNECTIONS = 4
LAST_TRY_S = 60.0
LAST_WORDS_S = 1.0
"""After the cut, how long clients may take to read that they were cut."""

GC_THRESHOLDS = (50_000, 20, 50)
"""With the heap of start-up frozen, collections are rare and short: p99 under load fell from 48 ms to 7 ms with it."""


class Readiness(msgspec.Struct, frozen=True):
    """What ``GET /ready`` tells: ``ready`` when requests are judged and forwarded, and what is missing for that."""

    ready: bool
    draining: bool
    redis: str
    postgresql: str
    events_redis: str
    settings_version: int
    intercepts_pending: int
    spooled_bytes: int


class Worker:
    """What one worker process owns, from the lifespan's begin to its end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started_at = time.time()
        self._version = importlib.metadata.version(DISTRIBUTION)
        self._addresses = ClientAddressReader(settings.trusted_proxies)
        self._draining = False
        self._shut = False
        self._cache: Cache
        self._store: Store
        self._concurrency: Concurrency
        self._live: LiveSettingsFeed
        self._events: Events
        self._upstream: Upstream
        self._clients: Clients
        self._watch: ClientWatch
        self.verdicts: ASGIApp
        self._roster: Roster
        self._relay: Relay
        self._gateway: Gateway

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[tuple[Gateway, Relay]]:
        async with contextlib.AsyncExitStack() as stack:
            gateway = await self._furnish(stack)
            self._listen_for_drain()
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            yield gateway, self._relay
            self._draining = True

    async def _furnish(self, stack: contextlib.AsyncExitStack) -> Gateway:
        settings = self._settings
        redis_timeout_s = settings.redis_timeout_ms / 1000
        self._store = await Store.connect(
            settings.pg_dsn, timeout_s=settings.pg_timeout_ms / 1000, max_connections=settings.pg_pool_size
        )
        stack.push_async_callback(self._store.aclose)
        client = connect(settings.redis_url, timeout_s=ROUNDS * redis_timeout_s)
        self._cache = Cache(client, timeout_s=redis_timeout_s)
        stack.push_async_callback(self._cache.aclose)
        event_client = connect(settings.redis_url, timeout_s=redis_timeout_s, max_connections=EVENT_CONNECTIONS)
        stack.push_async_callback(event_client.aclose)
        tasks = Tasks()
        stack.push_async_callback(tasks.aclose)
        self._upstream = Upstream(origin(settings), upstream_limits(settings))
        stack.push_async_callback(self._upstream.aclose)
        self._clients = Clients(settings.port)
        self._watch = ClientWatch(patience(settings), self._clients, tasks)
        stack.callback(self._watch.close)
        self._events = Events(
            event_client,
            tasks,
            gateway=settings.gateway_name,
            spool_dir=settings.event_spool_dir,
            limits=EventLimits(outbox=OutboxLimits(spool_max_bytes=settings.event_spool_max_bytes)),
        )
        stack.push_async_callback(self._events.aclose)
        bindings = Bindings(
            self._cache,
            self._store,
            tasks,
            l1_entries=settings.l1_entries,
            l1_ttl_s=settings.l1_ttl_s,
            l1_ttl_degraded_s=settings.l1_ttl_degraded_s,
        )
        stack.push_async_callback(bindings.aclose)
        self._concurrency = Concurrency(self._cache, tasks)
        stack.push_async_callback(self._concurrency.aclose)
        self._live = LiveSettingsFeed(self._cache, self._store, tasks, settings.initial_live_settings())
        await self._live.start()
        self._roster = Roster(bindings, self._live, self._events, tasks)
        self._roster.start()
        bindings.start()
        self._concurrency.start()
        self._events.start()
        self._upstream.start()
        self._watch.start()
        if settings.client_stall_timeout_s:
            self._bound_stalls(TICK_S)
        rooms = self._rooms(bindings)
        gateway = self._gateway = Gateway(rooms)
        self.verdicts = VerdictService(self._verdict_rooms(rooms))
        self._relay = Relay(rooms, gateway, relay_limits(settings))
        heartbeat = Heartbeat(event_client, tasks, lambda: self._vitals(gateway))
        stack.push_async_callback(heartbeat.aclose)
        heartbeat.start()
        return gateway

    def _rooms(self, bindings: Bindings) -> Rooms:
        settings = self._settings
        upstream = settings.upstream
        admission = Admission(bindings, self._events)
        limits = request_limits(settings)
        intake = Intake(
            IntakeRooms(
                credentials=Credentials(
                    settings.hmac_secret.get_secret_value().encode(),
                    settings.upstream_profile,
                    settings.key_extra_characters,
                    settings.allow_channel_suffix,
                ),
                addresses=self._addresses,
                admission=admission,
                live=self._live,
                limits=limits,
                base_path=upstream.base_path.encode(),
                authority=upstream.authority.encode(),
            )
        )
        return Rooms(
            intake=intake,
            admission=admission,
            concurrency=self._concurrency,
            events=self._events,
            upstream=self._upstream,
            watch=self._watch,
            roster=self._roster,
            profile=settings.upstream_profile,
            body_max_bytes=limits.body_max_bytes,
            server_timing=settings.server_timing,
        )

    def _verdict_rooms(self, rooms: Rooms) -> VerdictRooms:
        upstream = self._settings.upstream
        return VerdictRooms(
            intake=rooms.intake,
            admission=rooms.admission,
            addresses=self._addresses,
            events=rooms.events,
            probe=KeyProbe(
                rooms.upstream,
                rooms.profile,
                base_path=upstream.base_path.encode(),
                authority=upstream.authority.encode(),
            ),
        )

    def _bound_stalls(self, try_again_in_s: float) -> None:
        """The server begins to listen when this has started. Its clients are the watch's first, which can tell why."""
        limit_s = self._settings.client_stall_timeout_s + 2 * LOOK_EVERY_S
        if not bound_stalls(limit_s) and try_again_in_s < LAST_TRY_S:
            asyncio.get_running_loop().call_later(try_again_in_s, self._bound_stalls, 2 * try_again_in_s)

    # -- the end

    def _listen_for_drain(self) -> None:
        """The server says with `DRAIN_SIGNAL` that it is about to stop: Granian itself waits for streams for ever."""
        with contextlib.suppress(NotImplementedError, RuntimeError):  # not in the main thread: a test's own server
            asyncio.get_running_loop().add_signal_handler(DRAIN_SIGNAL, self._drain)

    def _drain(self) -> None:
        """Notice first: who comes is served, and sent elsewhere for the next time. Asked once more, it is over."""
        if self._draining:
            self._shut_the_door()
        else:
            self._draining = True
            self._gateway.part()
            asyncio.get_running_loop().call_later(self._settings.drain_notice_s, self._shut_the_door)

    def _shut_the_door(self) -> None:
        if not self._shut:
            self._shut = True
            stop_new_connections()
            self._relay.close()
            asyncio.get_running_loop().call_later(self._settings.drain_timeout_s, self._cut)

    def _cut(self) -> None:
        log.warning("drain time is over, cutting what is still open")
        self._watch.cut()
        self._upstream.cut()
        # Granian waits for clients to take what it has left for them, until it is killed with our records untold.
        asyncio.get_running_loop().call_later(LAST_WORDS_S, self._clients.hang_up)

    # -- what it tells of itself

    def readiness(self) -> Readiness:
        events = self._events.state()
        return Readiness(
            ready=not self._draining and (self._store.available or self._cache.available),
            draining=self._draining,
            redis=_state(available=self._cache.available),
            postgresql=_state(available=self._store.available),
            events_redis=_state(available=events.redis_reached),
            settings_version=self._live.current.version,
            intercepts_pending=events.intercepts_pending,
            spooled_bytes=events.spooled_bytes,
        )

    def _vitals(self, gateway: Gateway) -> Vitals:
        events = self._events.state()
        return Vitals(
            name=self._settings.gateway_name,
            pid=os.getpid(),
            version=self._version,
            started_at=self._started_at,
            workers=self._settings.worker_count,
            settings_version=self._live.current.version,
            draining=self._draining,
            open_exchanges=self._upstream.under_way,
            redis_available=self._cache.available,
            postgresql_available=self._store.available,
            touches_pending=events.touches_pending,
            intercepts_pending=events.intercepts_pending,
            batches_unconfirmed=events.batches_unconfirmed,
            batches_dropped=events.batches_dropped,
            spooled_bytes=events.spooled_bytes,
            counts=events.counts | gateway.counts() | {"allowed": events.allowed, "bound": self._store.bound},
            bytes_in=self._upstream.sent_bytes,
            bytes_out=self._upstream.received_bytes,
            added_time=tuple(gateway.added_time.counts),
        )


class Application(Litestar):
    """Litestar, with the gateway as its raw ASGI catch-all, and the relay for what is to become a WebSocket."""

    gateway: ASGIApp
    verdicts: ASGIApp
    relay: ASGIApp
    admin: ASGIApp

    def __call__(self, scope: Scope | LifeSpanScope, receive: Any, send: Any) -> Any:
        """Gives the chosen application's coroutine on: one more around it would be resumed with it each time."""
        facts: Any = scope
        if facts["type"] == "lifespan" or (raw_path := facts["raw_path"]) in OWN_PATHS:
            return super().__call__(scope, receive, send)
        if raw_path.startswith(ADMIN_PREFIX) and raw_path[len(ADMIN_PREFIX) :][:1] in (b"", b"/"):
            return self.admin(facts, receive, send)
        if raw_path.startswith(VERDICT_PATH) and raw_path[len(VERDICT_PATH) :][:1] in (b"", b"/"):
            if facts["type"] == "websocket":  # a proxy asks with its client's handshake, and gets a plain answer too
                facts = facts | {"type": "http", "method": "GET", "scheme": facts["scheme"].replace("ws", "http")}
            return self.verdicts(facts, receive, send)
        if facts["type"] == "websocket":
            return self.relay(facts, receive, send)
        return self.gateway(facts, receive, send)


def create_app(settings: Settings, admin: Litestar | None = None) -> Application:
    """``admin`` answers below `ADMIN_PREFIX` and lives as long as this; without it those paths do not exist here."""
    worker = Worker(settings)

    @route("/health", http_method=[HttpMethod.GET, HttpMethod.HEAD], sync_to_thread=False)
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @route("/ready", http_method=[HttpMethod.GET, HttpMethod.HEAD], sync_to_thread=False)
    def ready() -> Response[Readiness]:
        state = worker.readiness()
        return Response(state, status_code=200 if state.ready else 503, headers={"cache-control": "no-store"})

    @contextlib.asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if admin is not None:
                await stack.enter_async_context(admin.lifespan())
            app.gateway, app.relay = await stack.enter_async_context(worker.run())
            app.verdicts = worker.verdicts
            yield

    app = Application([health, ready], lifespan=[lifespan], openapi_config=None, logging_config=None, debug=False)
    app.admin = admin or _not_here
    return app


async def _not_here(_scope: Any, _receive: Any, send: Any) -> None:
    body = b'{"detail":"the admin API is not served here"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _state(*, available: bool) -> str:
    return "available" if available else "unavailable"
