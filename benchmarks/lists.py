"""``python -m benchmarks.lists URL``: how long the admin API's lists take, on a database that `benchmarks.fill` filled.

Each question is asked with other values every time, one after the other, on one kept connection; ADMIN_PASSWORD signs
in. p50 and p95 in milliseconds as the client sees them, HTTP and JSON included.
"""

import os
import random
import sys
import time
from collections.abc import Callable

import click
import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.figures import percentile

WARM_UP = 5

QUESTIONS: dict[str, Callable[[random.Random], str]] = {
    "bindings, latest first": lambda _: "/bindings",
    "bindings, most intercepted": lambda _: "/bindings?sort=intercept_count",
    "bindings around an address": lambda chance: f"/bindings?network={_address(chance)}",
    "bindings in a /24": lambda chance: f"/bindings?network={_address(chance).rpartition('.')[0]}.0/24",
    "bindings by hint": lambda chance: f"/bindings?hint={chance.randrange(1 << 16):04x}",
    "banned bindings": lambda _: "/bindings?status=banned",
    "bindings in observe mode": lambda _: "/bindings?mode=observe",
    "bindings by their note": lambda chance: f"/bindings?note={chance.randrange(1 << 16):04x}",
    "intercepts, latest first": lambda _: "/logs",
    "intercepts of an address": lambda chance: f"/logs?network={_address(chance)}",
    "observed intercepts": lambda _: "/logs?enforced=false",
    "intercepts of an unknown gateway": lambda chance: f"/logs?gateway=gone-{chance.randrange(1 << 16)}",
    "dashboard": lambda _: "/dashboard",
}


def _address(chance: random.Random) -> str:
    """One that `benchmarks.fill` gave to a binding, or next to it."""
    number = chance.randrange(10_000_000)
    return f"{10 + number % 90}.{number >> 16 & 0xFF}.{number >> 8 & 0xFF}.{number & 0xFF}"


@click.command()
@click.argument("url")
@click.option("--times", default=100, show_default=True)
def command(url: str, times: int) -> None:
    """Measure the lists of the admin API at URL, such as http://127.0.0.1:7000."""
    password = os.environ.get("ADMIN_PASSWORD")
    if not password:
        sys.exit("lists: ADMIN_PASSWORD is missing: the password of the operator admin")
    table = Table("question", "p50 ms", "p95 ms", "largest ms")
    with httpx.Client(base_url=f"{url.rstrip('/')}/admin/api", timeout=120, trust_env=False) as client:
        signed_in = client.post("/login", json={"name": "admin", "password": password}).raise_for_status().json()
        client.headers["authorization"] = f"Bearer {signed_in['access_token']}"
        for name, question in QUESTIONS.items():
            times_ms = _ask(client, question, times)
            figures = (percentile(times_ms, 0.5), percentile(times_ms, 0.95), max(times_ms))
            table.add_row(name, *(f"{figure or 0:.1f}" for figure in figures))
    Console().print(table)


def _ask(client: httpx.Client, question: Callable[[random.Random], str], times: int) -> list[float]:
    chance = random.Random(times)
    taken = []
    for number in range(times + WARM_UP):
        path = question(chance)
        began = time.perf_counter()
        client.get(path).raise_for_status()
        if number >= WARM_UP:
            taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)


if __name__ == "__main__":
    command()
