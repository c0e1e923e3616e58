"""Scenario sse: many paced streams at once; what one frame costs each peer, and that none is lost or altered.

The stub and the reader share the load core. Where that core cannot keep up, the number of streams is scaled down until
the direct baseline is clean, and the results say so.
"""

import gc
import os
import sys
from collections.abc import Callable

import msgspec
import uvloop

from benchmarks.chat import Peer
from benchmarks.figures import Spread, per, percentile, ratios, spread
from benchmarks.plan import CEILING, Options, open_peers
from benchmarks.processes import Bench, BenchError, cpu_s, listening, rss_mib, wait_until
from benchmarks.sse_client import MODEL, Ask, Tally, Window, read_streams
from benchmarks.stub.dialects import chat_stream

INTERVAL_MS = 20
SETTLE_S = 1.0
_RAMP_S = 1.0
_TAIL_S = 1.0
_FEWEST = 50
_CLEAN_SHARE = 0.98
_CLEAN_P99_MS = 20.0
_CLEAN_CORE_SHARE = 0.85
"""The load core needs room: behind a proxy the stub and the reader wake up at less convenient times."""


class SseRound(msgspec.Struct, frozen=True):
    """One round of one peer. ``delay`` is from the stub's clock reading to ours; both run on one machine."""

    frames_per_s: float
    cpu_us_per_frame: float | None
    stores_cpu_us_per_frame: float | None
    core_share: float | None
    load_core_share: float | None
    rss_mib: float | None
    delay_p50_ms: float | None
    delay_p99_ms: float | None
    coalesced_share: float | None
    bad_frames: int
    lost: int
    reordered: int
    altered: int
    streams_finished: int
    failures: list[str]


class SseResults(msgspec.Struct):
    """By peer; `CEILING` is the stub read directly, measured while the number of streams was settled."""

    streams: int
    streams_asked: int
    frames_per_s: float
    frame_bytes: int
    rounds: dict[str, list[SseRound]]
    notes: list[str]

    def ratio(self, name: str) -> Spread | None:
        """CPU per frame against nginx; None without nginx in the run."""
        baseline = [each.cpu_us_per_frame for each in self.rounds.get("nginx", [])]
        return spread(ratios([each.cpu_us_per_frame for each in self.rounds[name]], baseline))


def run(bench: Bench, options: Options, *, say: Callable[[str], None]) -> SseResults:
    stub_port, stub_pid = _start_stub(bench, options)
    os.sched_setaffinity(0, {options.load_core})
    gc.collect()
    gc.freeze()
    stub = Peer(CEILING, f"http://127.0.0.1:{stub_port}", ())
    streams, baseline, notes = _settle_streams(stub, stub_pid, options, say=say)
    rounds: dict[str, list[SseRound]] = {}
    peers = open_peers(bench, options, upstream_port=stub_port, buffering=False, say=say)
    for number in range(1, options.rounds + 1):
        for peer in peers:
            done = _round(peer, stub_pid, streams, options)
            rounds.setdefault(peer.name, []).append(done)
            say(f"sse {number}/{options.rounds} {peer.name}: {describe(done)}")
    frame_bytes = len(chat_stream(MODEL).frame % (100, 10**12))
    results = SseResults(streams, options.streams, 1000 / INTERVAL_MS, frame_bytes, rounds, notes)
    rounds[CEILING] = [baseline]
    notes += _notes(results)
    return results


def _start_stub(bench: Bench, options: Options) -> tuple[int, int]:
    command = [sys.executable, "-m", "benchmarks.stub", "--port", "0", "--any-key"]
    process = bench.start("stub", command, core=options.load_core)
    line = process.stdout.readline().decode() if process.stdout else ""
    name, _, port = line.strip().partition("=")
    if name != "PORT":
        raise BenchError(f"the stub did not come up:\n{bench.log_of('stub')}")
    wait_until(lambda: listening(int(port)), limit_s=10, what="stub", alive=process, why=lambda: bench.log_of("stub"))
    return int(port), process.pid


def _settle_streams(
    stub: Peer, stub_pid: int, options: Options, *, say: Callable[[str], None]
) -> tuple[int, SseRound, list[str]]:
    """How many streams stub and reader carry without a proxy in between, and the round that shows it."""
    streams = options.streams
    while True:
        done = _round(stub, stub_pid, streams, options)
        say(f"sse baseline, {streams} streams: {describe(done)}")
        if clean(done, streams):
            break
        if streams <= _FEWEST:
            raise BenchError(f"even {streams} streams are too many for the load core: is the machine busy?")
        streams = max(_FEWEST, streams * 3 // 4)
    notes = []
    if streams < options.streams:
        notes.append(f"scaled down from {options.streams} to {streams} streams: stub and reader share one core")
    return streams, done, notes


def clean(done: SseRound, streams: int) -> bool:
    """Nothing missing, the pace kept, room left on the load core."""
    return (
        done.bad_frames == 0
        and done.frames_per_s >= _CLEAN_SHARE * streams * 1000 / INTERVAL_MS
        and (done.delay_p99_ms or 0.0) < _CLEAN_P99_MS
        and (done.load_core_share or 0.0) < _CLEAN_CORE_SHARE
    )


def _round(peer: Peer, stub_pid: int, streams: int, options: Options) -> SseRound:
    length_s = _RAMP_S + SETTLE_S + options.seconds + _TAIL_S
    ask = Ask(frames=int(length_s * 1000 / INTERVAL_MS), interval_ms=INTERVAL_MS)
    used = _Used(peer.pids, peer.stores_pids, (stub_pid,), (os.getpid(),))
    tally, window = uvloop.run(
        read_streams(peer.url, options.key, streams, ask, settle_s=SETTLE_S, seconds=options.seconds, mark=used.mark)
    )
    gc.collect()
    return _figures(tally, window, used)


class _Used:
    """CPU seconds of some groups of process trees between two marks."""

    def __init__(self, *groups: tuple[int, ...]) -> None:
        self._groups = groups
        self._marks: list[list[float | None]] = []
        self.rss_mib: float | None = None

    def mark(self) -> None:
        self.rss_mib = rss_mib(*self._groups[0])
        # Our own children are the peers: of us, only we ourselves count.
        self._marks.append([_own_cpu_s() if pids == (os.getpid(),) else cpu_s(*pids) for pids in self._groups])

    def seconds(self, position: int) -> float | None:
        before, after = self._marks[0][position], self._marks[1][position]
        return None if before is None or after is None else after - before


def _own_cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def _figures(tally: Tally, window: Window, used: _Used) -> SseRound:
    delays = sorted(window.delays_ns)
    p50, p99 = percentile(delays, 0.5), percentile(delays, 0.99)
    cpu, stores = per(used.seconds(0), window.frames), per(used.seconds(1), window.frames)
    load = [seconds for seconds in (used.seconds(2), used.seconds(3)) if seconds is not None]
    own = used.seconds(0)
    return SseRound(
        frames_per_s=window.frames / window.seconds,
        cpu_us_per_frame=None if cpu is None else cpu * 1e6,
        stores_cpu_us_per_frame=None if stores is None else stores * 1e6,
        core_share=None if own is None else own / window.seconds,
        load_core_share=sum(load) / window.seconds if load else None,
        rss_mib=used.rss_mib,
        delay_p50_ms=None if p50 is None else p50 / 1e6,
        delay_p99_ms=None if p99 is None else p99 / 1e6,
        coalesced_share=per(tally.coalesced, tally.frames),
        bad_frames=tally.bad,
        lost=tally.lost,
        reordered=tally.reordered,
        altered=tally.altered,
        streams_finished=tally.finished,
        failures=tally.failed,
    )


def describe(done: SseRound) -> str:
    cpu = "" if done.cpu_us_per_frame is None else f", {done.cpu_us_per_frame:.1f} µs CPU a frame"
    delay = "" if done.delay_p99_ms is None else f", delay p50 {done.delay_p50_ms:.2f} p99 {done.delay_p99_ms:.2f} ms"
    load = "" if done.load_core_share is None else f", load core {done.load_core_share:.0%}"
    bad = f", {done.bad_frames} BAD FRAMES {done.failures}" if done.bad_frames or done.failures else ""
    return f"{done.frames_per_s:,.0f} frames/s{cpu}{delay}{load}{bad}"


def _notes(results: SseResults) -> list[str]:
    notes: list[str] = []
    nominal = results.streams * results.frames_per_s
    for name, done in results.rounds.items():
        rate = spread(each.frames_per_s for each in done)
        if rate is not None and rate.median < _CLEAN_SHARE * nominal:
            notes.append(f"{name} did not keep the pace: {rate.median:,.0f} of {nominal:,.0f} frames/s")
        if failures := [reason for each in done for reason in each.failures]:
            notes.append(f"{name}: streams failed: {', '.join(failures[:3])}")
    return notes
