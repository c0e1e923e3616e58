"""The Dockerfile, carried out step by step in empty folders: what comes out serves, as nobody, writing nowhere else."""

import os
import signal
import tomllib
from pathlib import Path

import pytest

from sentinel.services import Stores
from tests.support.databases import open_folder
from tests.support.dockerfile import build, build_context, instructions
from tests.support.gateways import free_port
from tests.support.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


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


async def test_the_image_migrates_serves_is_found_healthy_and_stops(
    stores: Stores, migrated_template: str, pg_dsn: str
):
    with open_folder() as folder:
        (folder / "context").mkdir()
        image = build(DOCKERFILE, build_context(ROOT, ROOT / ".dockerignore", folder / "context"), folder)
        port = free_port()
        settings = {
            "DOWNSTREAM_URL": f"http://127.0.0.1:{free_port()}",
            "PG_DSN": pg_dsn,
            "REDIS_URL": stores.redis_url,
            "SENTINEL_HMAC_SECRET": "5b1f0c2e9a7d48f36e1b0a9c8d7e6f504132a3b4c5d6e7f8091a2b3c4d5e6f70",
            "SENTINEL_PORT": str(port),
            "SENTINEL_WORKERS": "1",
            "SENTINEL_DRAIN_NOTICE_S": "0",
        }
        migrated = image.run([*image.entrypoint, "migrate"], **settings)
        said, _ = migrated.communicate()
        assert migrated.returncode == 0, said.decode()

        def is_healthy() -> bool:
            asked = image.run(image.healthcheck, **settings)
            asked.communicate()
            return asked.returncode == 0

        before = set(image.root.rglob("*"))
        served = image.run([*image.entrypoint, *image.command], **settings)
        try:
            await eventually(lambda: served.poll() is not None or is_healthy())
            served.send_signal(signal.SIGTERM)
            said, _ = served.communicate(timeout=60)
            assert served.returncode == 0, said.decode()
        finally:
            served.kill()
            served.communicate()
        assert not is_healthy()
        written = {path.relative_to(image.root) for path in image.root.rglob("*") if path not in before}
        assert all(path.is_relative_to("var/lib/sentinel") for path in written), written
        if os.geteuid() == 0:
            assert image.user.split(":")[0] != "0"
