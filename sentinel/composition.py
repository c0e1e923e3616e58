"""Puts one gateway worker together, in the worker's own process: settings, logging, the application."""

import contextlib
import ctypes
import enum
import multiprocessing
import os
import signal
import sys
from typing import TypeVar

from litestar import Litestar

from proxy_core.logging_setup import setup_logging
from proxy_core.settings import Settings, load

PR_SET_PDEATHSIG = 1
S = TypeVar("S", bound=Settings)


class Plane(enum.StrEnum):
    """What one server process serves."""

    ALL = "all"
    PROXY = "proxy"
    ADMIN = "admin"


def settings_of(plane: Plane) -> Settings:
    """A gateway alone needs no secret of the control plane. Raises SettingsError."""
    from admin_api.settings import AdminSettings

    return load(Settings) if plane is Plane.PROXY else load(AdminSettings)


def create_all() -> Litestar:
    """Both planes on one port."""
    from admin_api.app import create_admin_app
    from admin_api.settings import AdminSettings
    from proxy_core.app import create_app

    settings = _begin(AdminSettings)
    return create_app(settings, create_admin_app(settings))


def create_proxy() -> Litestar:
    from proxy_core.app import create_app

    return create_app(_begin(Settings))


def create_admin() -> Litestar:
    from admin_api.app import create_admin_app
    from admin_api.settings import AdminSettings

    return create_admin_app(_begin(AdminSettings))


FACTORIES = {Plane.ALL: create_all, Plane.PROXY: create_proxy, Plane.ADMIN: create_admin}
"""What Granian calls in each worker."""


def _begin(kind: type[S]) -> S:
    # Until the application listens for the drain, its signal must not be what it is by default: deadly.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    _end_with_the_server()
    settings = load(kind)
    setup_logging(settings.log_level)
    if settings.cpu_scheduling == "batch":
        _let_threads_finish()
    return settings


def _let_threads_finish() -> None:
    """The server's thread and the event loop's wake each other several times a request. Woken threads of this policy
    do not interrupt the one that runs, so each does more at a time. ``SENTINEL_CPU_SCHEDULING=normal python -m
    benchmarks`` measures without it: about a fifth more CPU a request.

    The server's threads are made after this and inherit it.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox that forbids it costs speed, nothing else
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _end_with_the_server() -> None:
    """A worker whose server was killed would keep the port and serve on, with nobody to stop it."""
    server = multiprocessing.parent_process()
    if server is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server.pid:
        sys.exit(1)
