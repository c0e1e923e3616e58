"""The worker process: SAQ runs the jobs of `jobs.schedule` until SIGTERM or SIGINT.

Where it stands in the walk: beside the gateways. `sentinel worker` calls `main`; any number of workers may run.

What SAQ does not do by itself, and is done here:

- It asks an absent Redis again without a pause, and says so with a traceback a second: `JobQueue` pauses, and one line
  says that Redis is away and one that it is back.
- It lets a task fail unseen when Redis goes away at the end of a job: `JobQueue` lets the sweep find such jobs.
- It waits for Redis for ever when a connection dies without a word: reads are bounded here.
- Its listener to job news, once started, spins while Redis is away: `JobQueue` polls instead (only sweeps ask).
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from typing import Any

import uvloop
from redis.asyncio import Redis
from redis.exceptions import RedisError
from saq import Job, Status, Worker
from saq.queue import Queue
from saq.queue.redis import RedisQueue
from saq.types import ListenCallback
from sqlalchemy.ext.asyncio import async_sessionmaker

from admin_api.alerts.sending import Sender
from admin_api.database import make_engine
from admin_api.jobs import schedule
from admin_api.jobs.alerts import Alerts
from admin_api.jobs.deliveries import Deliveries
from admin_api.jobs.ingest import Ingest
from admin_api.jobs.live import Remembered
from admin_api.jobs.outages import LOOK_EVERY_S, Outages
from admin_api.jobs.postgres import Postgres
from admin_api.rooms import Newsroom
from admin_api.settings import WorkerSettings
from proxy_core import keyspace
from proxy_core.cache import Cache, connect
from proxy_core.circuit import Circuit
from proxy_core.tasks import Tasks

CONCURRENCY = 8
"""Above `ingest.DRAINS_MAX` and `deliveries.AT_ONCE` together: neither keeps the other from running."""

REDIS_TIMEOUT_S = 6.0
"""For one answer of Redis; above the times for which it is asked to block (`DEQUEUE_S`, `IngestLimits.block_s`)."""

CACHE_TIMEOUT_S = 2.0
DEQUEUE_S = 3.0
SWEEP_EVERY_S = 15
STOP_WITHIN_S = 8.0
"""What jobs have to finish what is in their hands after a signal; above `IngestLimits.finish_s`."""

REDIS_PAUSE_S = 0.5


def main(settings: WorkerSettings) -> None:
    """Runs until SIGTERM or SIGINT; starts, and goes on, without either store. Logging is set up by the caller."""
    quieten_saq(debug=settings.log_level == "debug")
    uvloop.run(run(settings))


async def run(settings: WorkerSettings) -> None:
    queue = JobQueue(connect(settings.redis_url, timeout_s=REDIS_TIMEOUT_S), keyspace.QUEUE_NAME)
    try:
        await queue.connect()
        await _worker(queue, settings).start()
    finally:
        await queue.disconnect()


def _worker(queue: "JobQueue", settings: WorkerSettings) -> "JobWorker":
    async def startup(context: Any) -> None:
        """None of these connects yet."""
        redis = connect(settings.redis_url, timeout_s=REDIS_TIMEOUT_S, max_connections=8)
        postgres = await Postgres.connect(settings.pg_dsn)
        initial = settings.initial_live_settings()
        sender = Sender(settings.alert_private_targets, settings.console_url)
        deliveries = Deliveries(postgres, sender)
        context["postgres"], context["redis"], context["initial"] = postgres, redis, initial
        context["deliveries"] = deliveries
        context["ingest"] = Ingest(redis, postgres, alerts=Alerts(redis, postgres, Remembered(postgres, initial)))
        engine = make_engine(settings.pg_dsn, "sentinel-worker")
        cache = Cache(connect(settings.redis_url, timeout_s=CACHE_TIMEOUT_S), timeout_s=CACHE_TIMEOUT_S)
        tasks = Tasks()
        context["news"] = Newsroom(async_sessionmaker(engine, expire_on_commit=False), cache, tasks)
        own_redis = connect(settings.redis_url, timeout_s=REDIS_TIMEOUT_S, max_connections=1)
        own_postgres = await Postgres.connect(settings.pg_dsn, max_connections=1)
        outages = Outages(own_redis, own_postgres, deliveries, sender)
        tasks.repeat(outages.look, every_s=LOOK_EVERY_S, name="store outages")
        context["endings"] = (
            *(tasks.aclose, cache.aclose, engine.dispose, own_redis.aclose, own_postgres.aclose),
            *(redis.aclose, postgres.aclose),
        )

    async def shutdown(context: Any) -> None:
        for end in context.get("endings", ()):  # none if the start did not come to its end
            await end()

    return JobWorker(
        queue,
        schedule.FUNCTIONS,
        concurrency=CONCURRENCY,
        cron_jobs=schedule.CRON_JOBS,
        startup=startup,
        shutdown=shutdown,
        timers={"schedule": 1, "worker_info": 10, "sweep": SWEEP_EVERY_S, "abort": 1},
        dequeue_timeout=DEQUEUE_S,
        cancellation_hard_deadline_s=STOP_WITHIN_S,
    )


class JobWorker(Worker[Any]):
    """SAQ's worker, which also asks for the jobs that are no cron jobs (`jobs.schedule` says why)."""

    _started = False

    async def schedule(self, lock: int = 1) -> None:
        """SAQ calls it every second."""
        await schedule.ask_for_a_turn(self.queue, self.id)
        await schedule.ask_for_what_is_due(self.queue)
        if not self._started:
            await schedule.ask_for_what_a_start_needs(self.queue)
            self._started = True
        await super().schedule(lock)


class JobQueue(RedisQueue):
    """SAQ's queue, which bears that Redis is away."""

    def __init__(self, redis: Redis, name: str) -> None:
        super().__init__(redis, name)
        self._state = Circuit("redis (job queue)", clock=time.monotonic)

    async def dequeue(self, timeout: float = 0.0, poll_interval: float = 0.0) -> Job | None:  # noqa: ASYNC109 - SAQ's
        try:
            job = await super().dequeue(timeout, poll_interval)
        except (RedisError, OSError) as fault:
            self._state.failed(type(fault).__name__)
            await asyncio.sleep(REDIS_PAUSE_S)
            return None
        self._state.succeeded()
        return job

    async def disconnect(self) -> None:
        """Without the goodbye of a listener that never listened: it would wait for a Redis that hangs."""
        await self.redis.aclose()

    async def _finish(self, job: Job, status: Status, *, result: Any = None, error: str | None = None) -> None:
        """What the job did stands even if Redis cannot be told; the next sweep takes it off the list."""
        with contextlib.suppress(RedisError, OSError):
            await super()._finish(job, status, result=result, error=error)

    async def _retry(self, job: Job, error: str | None) -> None:
        with contextlib.suppress(RedisError, OSError):
            await super()._retry(job, error)

    async def listen(
        self,
        job_keys: Iterable[str],
        callback: ListenCallback,
        timeout: float | None = 10,  # noqa: ASYNC109 - SAQ's signature
        poll_interval: float = 0.5,
    ) -> None:
        await Queue.listen(self, job_keys, callback, timeout, poll_interval)


def quieten_saq(*, debug: bool) -> None:
    """Leaves of SAQ's lines the warnings and errors that an operator can do something about."""
    logger = logging.getLogger("saq")
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    logger.addFilter(_worth_saying)


def _worth_saying(record: logging.LogRecord) -> bool:
    """Not that Redis is away, which `Circuit` says once; not that a stop interrupts what waits for work."""
    fault = record.exc_info[1] if record.exc_info else None
    if isinstance(fault, RedisError | ConnectionError | TimeoutError) and "Upkeep" in record.getMessage():
        return False
    if isinstance(fault, RedisError) and record.getMessage().startswith("Error processing job"):
        return False  # what the job did is done; that Redis could not be told is seen by the next sweep
    return not record.getMessage().startswith("Some tasks did not finish within the shutdown grace period")
