"""Owns the gateway's server: MPServer's workers, how they stop, and the status that says how it went.

A stop goes in steps. Workers are told with SIGUSR1 that the drain begins: for ``drain_notice_s`` they serve on, say so
at ``/ready`` and close each connection with its answer; then their doors shut and WebSockets are closed.
LAST_CONNECTIONS_S later, when who stood at the door is in and the goodbyes are said, SIGTERM makes Granian close the
listeners and finish. The application cuts what is open after ``drain_timeout_s`` more and writes its records; a worker
that is still there KILL_MARGIN_S later is killed. Granian alone would reset who stands at the door, drop WebSockets
without a word, and wait for open streams without bound. A second signal ends the notice.
"""

import contextlib
import math
import os
import resource
import signal
import tempfile
from pathlib import Path
from types import FrameType

from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer  # what `granian.Granian` is on Linux, under a name that type checkers follow

from proxy_core.logging_setup import logging_config, setup_logging
from proxy_core.settings import Settings
from sentinel.composition import FACTORIES, Plane
from sentinel.errors import ProcessFailed
from sentinel.ports import refuse_busy_port

DRAIN_SIGNAL = signal.SIGUSR1
LAST_CONNECTIONS_S = 0.3
KILL_MARGIN_S = 10
BACKLOG = 4096
# Granian counts connections here, not requests: a low value would starve new clients behind a keep-alive proxy.
CONNECTIONS_PER_WORKER = 65_535
HEAD_MARGIN_BYTES = 16_384
"""What Granian reads beyond our limits of target and headers: a head that is a little too large gets our own answer,
in the caller's dialect; Granian answers 431 without a word to anything larger."""


def serve(settings: Settings, plane: Plane) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit status: 0 after a stop, 1 when a worker ended by itself."""
    setup_logging(settings.log_level)
    refuse_busy_port(settings.host, settings.port)
    if plane is not Plane.ADMIN and settings.event_spool_max_bytes:
        _refuse_closed_spool(settings.event_spool_dir)
    _raise_descriptor_limit()
    server = _server(settings, plane)
    server.on_startup(lambda: _stop_in_steps(server, settings.drain_notice_s))
    try:
        server.serve(target_loader=FACTORIES[plane], wrap_loader=False)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except OSError as error:
        raise ProcessFailed(f"cannot listen on {settings.host} port {settings.port}: {error.strerror}") from error
    return 0


def _refuse_closed_spool(folder: Path) -> None:
    """Each worker would find out by itself, and end with a traceback. Raises ProcessFailed."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = f"the event spool {folder.absolute()} cannot be written: {error.strerror}; see SENTINEL_EVENT_SPOOL_DIR"
        raise ProcessFailed(why) from error


def _server(settings: Settings, plane: Plane) -> MPServer:
    head_max_bytes = settings.request_target_max_bytes + settings.request_headers_max_bytes + HEAD_MARGIN_BYTES
    return MPServer(
        f"sentinel.composition:{FACTORIES[plane].__name__}",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.worker_count,
        runtime_threads=1,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=True,
        backlog=BACKLOG,
        backpressure=CONNECTIONS_PER_WORKER,
        http1_settings=HTTP1Settings(
            header_read_timeout=math.ceil(settings.request_head_timeout_s * 1000),
            keep_alive=True,
            max_buffer_size=head_max_bytes,
        ),
        log_level=LogLevels(settings.log_level),
        log_dictconfig=logging_config(settings.log_level),
        log_access=False,
        respawn_failed_workers=False,
        workers_kill_timeout=math.ceil(settings.drain_timeout_s) + KILL_MARGIN_S,
    )


def _stop_in_steps(server: MPServer, notice_s: float) -> None:
    """Granian has set its own handlers by now: ours tell the workers first, then do what its do."""
    finish = signal.getsignal(signal.SIGTERM)
    remaining_s = [LAST_CONNECTIONS_S, notice_s + LAST_CONNECTIONS_S]  # the second signal's, the first's

    def stop(_number: int, _frame: FrameType | None) -> None:
        for worker in server.wrks:
            with contextlib.suppress(ProcessLookupError, TypeError):
                os.kill(worker.inner.pid, DRAIN_SIGNAL)
        if remaining_s:
            signal.setitimer(signal.ITIMER_REAL, remaining_s.pop())

    if callable(finish):
        signal.signal(signal.SIGALRM, finish)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _raise_descriptor_limit() -> None:
    """Each open stream holds two descriptors; many systems start a process with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
