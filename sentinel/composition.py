"""Puts one gateway worker together, in the worker's own process: settings, logging, the application."""

import ctypes
import multiprocessing
import os
import signal
import sys

from litestar import Litestar

from proxy_core.app import create_app as create_proxy
from proxy_core.logging_setup import setup_logging
from proxy_core.settings import load_settings

PR_SET_PDEATHSIG = 1


def create_app() -> Litestar:
    """The factory that Granian calls in each worker."""
    # Until the application listens for the drain, its signal must not be what it is by default: deadly.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    _end_with_the_server()
    settings = load_settings()
    setup_logging(settings.log_level)
    return create_proxy(settings)


def _end_with_the_server() -> None:
    """A worker whose server was killed would keep the port and serve on, with nobody to stop it."""
    server = multiprocessing.parent_process()
    if server is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server.pid:
        sys.exit(1)
