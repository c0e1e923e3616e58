"""The README's admin API section: every path, and all of it works as it stands."""

import asyncio
import re

import httpx
import pytest

from sentinel.services import Stores
from tests.support import admin, databases
from tests.support.settings_docs import README

pytestmark = pytest.mark.anyio

MARK = "<!-- admin API:"


def script() -> str:
    text = README.read_text(encoding="utf-8")
    return text[text.index(MARK) :].partition("```bash\n")[2].partition("```")[0]


async def test_the_section_shows_every_path_of_the_document(api: httpx.AsyncClient):
    document = (await api.get("/openapi/openapi.json")).json()
    shown = re.findall(r"curl .*?\"\$API(/[^\"?]*)", script())
    for path in document["paths"]:
        template = re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path.removeprefix("/admin/api")))
        assert any(template.fullmatch(each) for each in shown), path


async def test_the_commands_work_as_they_stand(stores: Stores, migrated_template: str, redis_url: str):
    with (
        databases.fresh_database(stores.postgres, migrated_template) as dsn,
        admin.running_admin(dsn, redis_url, SENTINEL_TRUSTED_PROXIES="") as server,
    ):
        commands = script().replace("http://127.0.0.1:7000", server.url)
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", commands),
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "ADMIN_PASSWORD": admin.ADMIN_PASSWORD},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        told, faults = await shell.communicate()
        assert (shell.returncode, faults.decode()) == (0, ""), told.decode()[-2000:]
