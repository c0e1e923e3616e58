"""A worker process for tests: `sentinel worker` as production runs it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

STOP_LIMIT_S = 30.0


class WorkerProcess:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def log_lines(self) -> list[dict]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def log_text(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_LIMIT_S)


@contextlib.contextmanager
def running_worker(pg_dsn: str, redis_url: str, **settings: str) -> Iterator[WorkerProcess]:
    """Killed at the end of the block, if it still runs. No line that it logged may be a traceback."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SENTINEL_", "ALERT_"))},
            "DOWNSTREAM_URL": "http://127.0.0.1:9",
            "PG_DSN": pg_dsn,
            "REDIS_URL": redis_url,
            "SENTINEL_HMAC_SECRET": "5b1f0c2e9a7d48f36e1b0a9c8d7e6f504132a3b4c5d6e7f8091a2b3c4d5e6f70",
            **settings,
        }
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "sentinel", "worker"], env=environment, stdout=output, stderr=output, cwd=folder
            )
        worker = WorkerProcess(process, log)
        try:
            yield worker
            assert [line for line in worker.log_lines() if "exception" in line] == []
        finally:
            worker.kill()
