"""The control plane's Litestar application: everything below ``/admin/api``.

Where it stands in the walk: the data plane's application calls it by the raw path, or it is served alone
(``sentinel serve --plane admin``). Whoever serves it enters its lifespan.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar, Request, Router, get
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from sqlalchemy.ext.asyncio import async_sessionmaker

from admin_api.actors import Actor
from admin_api.alerts.sending import Sender
from admin_api.authentication import Authentication
from admin_api.controllers import CONTROLLERS, OPEN_PATHS
from admin_api.database import make_engine
from admin_api.lockout import Lockout
from admin_api.passwords import Passwords
from admin_api.problems import HANDLERS
from admin_api.rooms import AdminRooms
from admin_api.settings import AdminSettings
from admin_api.slow_bodies import bound_bodies
from proxy_core.cache import Cache, connect
from proxy_core.client_ip import ClientAddressReader
from proxy_core.credentials import Credentials
from proxy_core.tasks import Tasks

PREFIX = "/admin/api"
REDIS_TIMEOUT_S = 2.0
BODY_MAX_BYTES = 64 * 1024 * 1024


def create_admin_app(settings: AdminSettings) -> Litestar:
    """An ASGI application whose routes carry the whole path."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with furnish(settings) as rooms:
            app.state.rooms = rooms
            yield

    open_paths = ["^/health$", *(f"^{PREFIX}{path}$" for path in OPEN_PATHS)]
    return Litestar(
        [health, Router(PREFIX, route_handlers=CONTROLLERS)],
        lifespan=[lifespan],
        middleware=[bound_bodies, DefineMiddleware(Authentication, exclude=open_paths)],
        dependencies={
            "rooms": Provide(provide_rooms, sync_to_thread=False),
            "actor": Provide(provide_actor, sync_to_thread=False),
        },
        exception_handlers=HANDLERS,
        openapi_config=OpenAPIConfig(
            title="Key-IP Sentinel admin API",
            version="1",
            path=f"{PREFIX}/openapi",
            components=Components(security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer")}),
            security=[{"bearer": []}],
        ),
        request_max_body_size=BODY_MAX_BYTES,
        logging_config=None,
        debug=False,
    )


@get("/health", sync_to_thread=False, include_in_schema=False)
def health() -> dict[str, str]:
    """For a process that serves this plane alone."""
    return {"status": "ok"}


@contextlib.asynccontextmanager
async def furnish(settings: AdminSettings) -> AsyncIterator[AdminRooms]:
    """Connects when first used, so that it starts without either store."""
    engine = make_engine(settings.pg_dsn, "sentinel-admin")
    cache = Cache(connect(settings.redis_url, timeout_s=REDIS_TIMEOUT_S), timeout_s=REDIS_TIMEOUT_S)
    redis = connect(settings.redis_url, timeout_s=REDIS_TIMEOUT_S)
    tasks = Tasks()
    try:
        yield AdminRooms(
            settings,
            engine,
            async_sessionmaker(engine, expire_on_commit=False),
            cache,
            redis,
            ClientAddressReader(settings.trusted_proxies),
            Credentials(
                settings.hmac_secret.get_secret_value().encode(),
                settings.upstream_profile,
                settings.key_extra_characters,
                settings.allow_channel_suffix,
            ),
            Passwords(),
            Lockout(redis),
            tasks,
            Sender(settings.alert_private_targets, settings.console_url),
        )
    finally:
        await tasks.aclose()
        await redis.aclose()
        await cache.aclose()
        await engine.dispose()


def provide_rooms(request: Request[Any, Any, Any]) -> AdminRooms:
    rooms: AdminRooms = request.app.state.rooms
    return rooms


def provide_actor(request: Request[Actor, Any, Any]) -> Actor:
    return request.user
