"""What a run was asked for, and its peers brought up: the same upstream behind each, each on the same core.

Peers stay up for the whole scenario and idle while another is measured.
"""

from collections.abc import Callable

import msgspec

from benchmarks import nginx
from benchmarks.chat import Peer
from benchmarks.gateway import StoresPeer, start_gateway, start_stores
from benchmarks.processes import Bench, free_port

PEERS = ("nginx", "sentinel", "edge", "verdict", "target")
"""edge: nginx in front of Sentinel, as in production. verdict: nginx that forwards by itself and asks Sentinel."""

CEILING = "direct"
"""The name under which the upstream is measured without a proxy: what no peer can exceed."""


class Options(msgspec.Struct, frozen=True):
    """``peers`` in the order of each round: any of `PEERS`."""

    peers: tuple[str, ...]
    seconds: int
    rounds: int
    streams: int
    core: int
    load_core: int
    key: str
    target: str | None = None
    target_pid: int | None = None

    def public(self) -> dict[str, object]:
        """What the results may tell: everything but the key."""
        told: dict[str, object] = msgspec.structs.asdict(self)
        del told["key"]
        return told


def open_chat_peers(bench: Bench, options: Options, *, say: Callable[[str], None]) -> tuple[list[Peer], Peer]:
    """The peers, and the upstream itself as the ceiling."""
    upstream_port = free_port()
    upstream_pid = nginx.start_upstream(bench, port=upstream_port, core=options.load_core)
    peers = open_peers(bench, options, upstream_port=upstream_port, buffering=True, say=say)
    return peers, Peer(CEILING, f"http://127.0.0.1:{upstream_port}", (upstream_pid,))


def open_peers(
    bench: Bench, options: Options, *, upstream_port: int, buffering: bool, say: Callable[[str], None]
) -> list[Peer]:
    """Each asked-for peer in front of that upstream. A target brings its own."""
    peers: list[Peer] = []
    stores: StoresPeer | None = None
    for name in options.peers:
        if name == "target" and options.target:
            pids: tuple[int, ...] = () if options.target_pid is None else (options.target_pid,)
            peers.append(Peer("target", options.target.rstrip("/"), pids))
            continue
        say(f"starting {name}")
        port = free_port()
        if name == "nginx":
            pid = nginx.start_proxy(
                bench, port=port, upstream_port=upstream_port, core=options.core, buffering=buffering
            )
            peers.append(Peer(name, f"http://127.0.0.1:{port}", (pid,)))
        else:
            stores = stores or start_stores(bench, core=options.load_core)
            pids = _start_sentinel(name, bench, stores, upstream_port=upstream_port, port=port, core=options.core)
            peers.append(Peer(name, f"http://127.0.0.1:{port}", pids, (stores.pid,)))
    return peers


def _start_sentinel(
    name: str, bench: Bench, stores: StoresPeer, *, upstream_port: int, port: int, core: int
) -> tuple[int, ...]:
    """A gateway, and for all but ``sentinel`` an nginx before or beside it on the same core."""
    if name == "sentinel":
        return (start_gateway(bench, stores, upstream_port=upstream_port, port=port, core=core),)
    own_port = free_port()
    gateway = start_gateway(
        bench, stores, upstream_port=upstream_port, port=own_port, core=core, trusted_proxies="127.0.0.1"
    )
    if name == "edge":
        return gateway, nginx.start_proxy(bench, port=port, upstream_port=own_port, core=core, buffering=False)
    return gateway, nginx.start_verdict(bench, port=port, upstream_port=upstream_port, gateway_port=own_port, core=core)
