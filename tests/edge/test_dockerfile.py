"""The Dockerfile, carried out step by step in empty folders: what comes out serves, as nobody, writing nowhere else.

And as compose.yaml confines it: each of its processes on a read-only root, without capabilities.
"""

import asyncio
import contextlib
import json
import re
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from redis.asyncio import Redis

from proxy_core import keyspace
from sentinel.services import Stores
from tests.support import admin, confined, databases
from tests.support.confined import Container
from tests.support.databases import open_folder
from tests.support.dockerfile import Image, build, build_context, instructions, moved
from tests.support.doors import stores_over_tcp
from tests.support.gateways import free_port, free_port_everywhere
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
START_LIMIT_S = 240  # the image has no compiled modules, and its user may not write any
STOP_LIMIT_S = 60


@pytest.fixture(scope="module")
def confining() -> None:
    """Asked before an image is built for nothing."""
    confined.require()


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """Not below /tmp, which each container has for itself."""
    with open_folder(outside_tmp=True) as folder:
        (folder / "context").mkdir()
        yield build(DOCKERFILE, build_context(ROOT, ROOT / ".dockerignore", folder / "context"), folder)


def test_the_context_has_what_is_installed_and_no_secret() -> None:
    """Every package of the project, and neither .env nor data nor tests."""
    listed = set((ROOT / ".dockerignore").read_text(encoding="utf-8").split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {f"!{name}" for name in packages} <= listed
    assert "*" in listed
    assert not {"!.env", "!.sentinel", "!tests", "!nginx"} & listed


def test_the_last_stage_installs_nothing_and_is_not_root() -> None:
    """What it has was copied; no shell stands between a signal and the process."""
    *_, last = DOCKERFILE.read_text(encoding="utf-8").split("\nFROM ")
    words = [word for word, _ in instructions("FROM " + last)]
    assert "RUN" not in words
    assert words.index("USER") < words.index("ENTRYPOINT")


@pytest.mark.skipif(
    not confined.why_not(), reason="the confined processes show more, and an image takes its time to build"
)
async def test_the_image_migrates_serves_is_found_healthy_and_stops(image: Image, stores: Stores, edge_dsn: str):
    async with stores_over_tcp(stores, edge_dsn) as reached:
        settings = {
            **reached,
            "DOWNSTREAM_URL": f"http://127.0.0.1:{free_port()}",
            "SENTINEL_HMAC_SECRET": admin.HMAC_SECRET,
            "SENTINEL_PORT": str(free_port_everywhere()),
            "SENTINEL_WORKERS": "1",
            "SENTINEL_DRAIN_NOTICE_S": "0",
        }

        async def ended(command: list[str]) -> int:
            process = image.run(command, **settings)
            await asyncio.to_thread(process.communicate)
            return process.returncode

        assert await ended([*image.entrypoint, "migrate"]) == 0

        async def is_healthy() -> bool:
            return await ended(image.healthcheck) == 0

        before = set(image.root.rglob("*"))
        served = image.run([*image.entrypoint, *image.command], **settings)
        try:
            await eventually_async(is_healthy, START_LIMIT_S)
            served.send_signal(signal.SIGTERM)
            said, _ = await asyncio.to_thread(served.communicate, timeout=STOP_LIMIT_S)
            assert served.returncode == 0, said.decode()
        finally:
            served.kill()
            served.communicate(timeout=STOP_LIMIT_S)
        assert not await is_healthy()
        written = {path.relative_to(image.root) for path in image.root.rglob("*") if path not in before}
        assert all(path.is_relative_to("var/lib/sentinel") for path in written), written


PLACES = ["/tmp", "/dev/shm", "/", "/etc", "/run", "/usr", "/var/tmp"]  # noqa: S108 - the first two can be written
LOOK = """
import json, os, sys
written, writable = [], []
for place in sys.argv[1:]:
    if not os.statvfs(place).f_flag & os.ST_RDONLY:
        writable.append(place)
    try:
        open(place + "/probe", "w").close()
        written.append(place)
    except PermissionError:
        pass
    except OSError as error:
        assert error.errno == 30, error
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps([written, writable, status["Uid"].split(), int(status["CapBnd"], 16), int(status["NoNewPrivs"])]))
"""


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """Those of compose.yaml that run our image."""
    read = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return {name: service for name, service in read.items() if service["image"] == "key-ip-sentinel"}


def assert_confined(image: Image, services: dict[str, Any]) -> None:
    """A container can write where compose.yaml says and nowhere else."""
    state = moved("/var/lib/sentinel", image.root)
    places = [moved("/opt/sentinel", image.root), state, *PLACES]
    for name, service in services.items():
        container = Container(image, service, {})
        said, _ = container.run(["python", "-c", LOOK, *places]).communicate()
        written, writable, users, capabilities, locked = json.loads(said)
        expected = [*([state] if name.startswith("gateway") else []), *PLACES[:2]]
        assert written == writable == expected, name
        assert (users, capabilities, locked) == (["10001"] * 4, 0, 1), name


async def test_every_process_works_as_compose_confines_it(
    confining: None, image: Image, services: dict[str, Any], stores: Stores, redis_url: str
):
    """The schema from nothing, then gateway, admin API, worker and console. Each is found healthy by its own check, or
    at work, has nothing to complain about, and ends in order."""
    assert_confined(image, services)
    with databases.fresh_database(stores.postgres, "template1") as dsn:
        async with stores_over_tcp(stores, dsn) as reached, contextlib.AsyncExitStack() as stack:
            admin_port = free_port_everywhere()
            settings = {
                **reached,
                "DOWNSTREAM_URL": f"http://127.0.0.1:{free_port()}",
                "SENTINEL_HMAC_SECRET": admin.HMAC_SECRET,
                "ADMIN_JWT_SECRET": admin.JWT_SECRET,
                "ADMIN_PASSWORD": admin.ADMIN_PASSWORD,
                "SENTINEL_ADMIN_API_URL": f"http://127.0.0.1:{admin_port}",
                "SENTINEL_DRAIN_NOTICE_S": "0",
            }

            def container(name: str, port: int = 7000) -> Container:
                placed = {"SENTINEL_PORT": str(port), "SENTINEL_CONSOLE_PORT": str(port)}
                return Container(image, services[name], settings | placed)

            migrated = container("migrate").start()
            said, _ = await asyncio.to_thread(migrated.communicate)
            assert migrated.returncode == 0, said.decode()
            gateway_port, console_port = free_port_everywhere(), free_port_everywhere()
            names = {"gateway-1": gateway_port, "admin": admin_port, "worker": 7000, "console": console_port}
            running = {name: stack.enter_context(container(name, port).running()) for name, port in names.items()}
            for name in ("gateway-1", "admin", "console"):
                await eventually_async(running[name].is_healthy, START_LIMIT_S)
            await eventually_async(lambda: is_read(redis_url), START_LIMIT_S)
            async with httpx.AsyncClient(base_url=settings["SENTINEL_ADMIN_API_URL"]) as client:
                signed_in = await client.post("/admin/api/login", json={"password": admin.ADMIN_PASSWORD})
            assert signed_in.status_code == 200
            for name, each in running.items():
                # uvicorn, which serves the console, ends in order and then by the signal that it was sent.
                expected = -signal.SIGTERM if name == "console" else 0
                assert (name, await asyncio.to_thread(each.stop)) == (name, expected), each.said()
                assert not re.search("error|denied|read-only", each.said(), re.IGNORECASE), name


async def is_read(redis_url: str) -> bool:
    """A worker has begun to read the events of the gateways."""
    async with Redis.from_url(redis_url) as redis:
        return bool(await redis.exists(keyspace.EVENTS_STREAM)) and bool(
            await redis.xinfo_groups(keyspace.EVENTS_STREAM)
        )
