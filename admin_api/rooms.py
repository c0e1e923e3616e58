"""What the control plane works with, furnished once a process by `app` and found at ``app.state.rooms``."""

import msgspec
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from admin_api.alerts.sending import Sender
from admin_api.lockout import Lockout
from admin_api.passwords import Passwords
from admin_api.settings import AdminSettings
from proxy_core.cache import Cache
from proxy_core.client_ip import ClientAddressReader
from proxy_core.credentials import Credentials
from proxy_core.tasks import Tasks


class Newsroom(msgspec.Struct, frozen=True):
    """What `operations.publishing` needs to tell gateways what was committed: the jobs' rooms."""

    sessions: async_sessionmaker[AsyncSession]
    cache: Cache
    tasks: Tasks


class AdminRooms(msgspec.Struct, frozen=True):
    """``sessions.begin()`` is one transaction; ``cache`` tells the data plane; ``redis`` is for what is ours there;
    ``tasks`` owns what must go on when the request that began it has ended; ``sender`` sends tests of alerts."""

    settings: AdminSettings
    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    cache: Cache
    redis: Redis
    addresses: ClientAddressReader
    credentials: Credentials
    passwords: Passwords
    lockout: Lockout
    tasks: Tasks
    sender: Sender
