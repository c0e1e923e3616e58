"""wrk, the closed-loop load generator: run once, its figures read from a JSON line that our Lua script prints."""

import os
import shutil
import subprocess
from pathlib import Path

import msgspec

from benchmarks.processes import BenchError

CONNECTIONS = 64
BODY = (
    b'{"model":"stub-model","messages":[{"role":"user","content":"Say hello to everyone who is listening today please"}'
    b'],"stream":false}'
)
"""130 bytes, as in the recorded figures."""
_MARK = "FIGURES "

SCRIPT = """
wrk.method = "POST"
wrk.body = os.getenv("BENCH_BODY")
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_KEY")
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'FIGURES {"duration_s":%f,"requests":%d,"bytes":%d,"socket_errors":%d,"status_errors":%d,' ..
    '"p50_ms":%f,"p90_ms":%f,"p99_ms":%f,"p999_ms":%f,"max_ms":%f}\\n',
    summary.duration / 1e6, summary.requests, summary.bytes, e.connect + e.read + e.write + e.timeout, e.status,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3,
    latency:percentile(99.9) / 1e3, latency.max / 1e3))
end
"""


class WrkFigures(msgspec.Struct, frozen=True):
    """What wrk says of one run. Latencies are closed-loop: of what 64 connections did, not of a fixed rate."""

    duration_s: float
    requests: int
    bytes: int
    socket_errors: int
    status_errors: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


def run(url: str, *, seconds: int, core: int, key: str, folder: Path) -> WrkFigures:
    """Raises BenchError when wrk fails; errors of single requests are in the figures."""
    script = folder / "chat.lua"
    script.write_text(SCRIPT)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
        # The key in the environment: argv is readable by everyone on the machine.
        env={**os.environ, "BENCH_KEY": key, "BENCH_BODY": BODY.decode()},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    return read_figures(done.stdout, done.stderr)


def read_figures(stdout: str, stderr: str = "") -> WrkFigures:
    for line in stdout.splitlines():
        if line.startswith(_MARK):
            return msgspec.json.decode(line.removeprefix(_MARK), type=WrkFigures)
    raise BenchError(f"wrk printed no figures: {(stderr or stdout).strip()[-300:]}")


def version() -> str | None:
    path = shutil.which("wrk")
    if path is None:
        return None
    return (
        subprocess.run([path, "-v"], capture_output=True, text=True, check=False)
        .stdout.split(" [")[0]
        .removeprefix("wrk ")
        .strip()
    )
