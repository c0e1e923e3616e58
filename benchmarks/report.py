"""The results of a run: the raw shape that is written to a file, and the table that is shown."""

from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.chat import ChatRound
from benchmarks.figures import Spread, ratios, spread
from benchmarks.machine import Machine
from benchmarks.plan import CEILING
from benchmarks.sse import SseResults

RESULTS = Path(__file__).parent / "results"
CHAT_CPU_GOAL = 3.3
CHAT_P99_GOAL_MS = 12.0
SSE_CPU_GOAL = 1.6
_NEAR_CEILING = 0.9


class Results(msgspec.Struct):
    """Everything a run measured, round by round, by peer. A scenario that was not run is None."""

    machine: Machine
    options: dict[str, object]
    chat: dict[str, list[ChatRound]] | None = None
    sse: SseResults | None = None


def write(results: Results, path: Path | None) -> Path:
    """Where asked, or beside the recorded results, named by its time."""
    if path is None:
        stamp = results.machine.at[:19].replace(":", "")
        path = RESULTS / f"{stamp}Z.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    return path


def show(results: Results) -> None:
    console = Console(width=None if Console().is_terminal else 132)
    if results.chat is not None:
        console.print(_chat_table(results.chat))
        for note in chat_notes(results.chat):
            console.print(f"  note: {note}", highlight=False)
    if results.sse is not None:
        console.print(_sse_table(results.sse))
        for note in results.sse.notes:
            console.print(f"  note: {note}", highlight=False)
    machine = results.machine
    versions = " · ".join(f"{name} {version}" for name, version in machine.versions.items() if version)
    console.print(f"\n{machine.at} · {machine.cpu} · {machine.cores} cores · Linux {machine.kernel}", highlight=False)
    console.print(f"commit {machine.commit} · Python {machine.python} · {versions}", highlight=False)


def _chat_table(rounds: dict[str, list[ChatRound]]) -> Table:
    table = Table(title="chat: POST 130 B → 328 B, 64 connections, closed loop (median of rounds, IQR)")
    columns = ("peer", "CPU µs/req", "x nginx", "req/s", "p50 ms", "p99 ms", "of its core", "stores µs/req", "errors")
    for column in columns:
        table.add_column(column, justify="left" if column == "peer" else "right")
    for name, done in rounds.items():
        table.add_row(
            name,
            _text(spread(each.cpu_us_per_request for each in done)),
            _text(chat_ratio(rounds, name), digits=2) if name != "nginx" else "1",
            _text(spread(each.requests_per_s for each in done), digits=0),
            _text(spread(each.wrk.p50_ms for each in done), digits=2),
            _text(spread(each.wrk.p99_ms for each in done), digits=2),
            _text(spread(each.core_share for each in done), digits=2),
            _text(spread(each.stores_cpu_us_per_request for each in done)),
            str(sum(each.wrk.socket_errors + each.wrk.status_errors for each in done)),
        )
    table.caption = f"goals for sentinel: CPU ≤ {CHAT_CPU_GOAL}x nginx, p99 ≤ {CHAT_P99_GOAL_MS:g} ms"
    return table


def chat_ratio(rounds: dict[str, list[ChatRound]], name: str) -> Spread | None:
    """CPU per request against nginx, over the rounds; None without nginx in the run."""
    if "nginx" not in rounds:
        return None
    cpu = [each.cpu_us_per_request for each in rounds[name]]
    return spread(ratios(cpu, [each.cpu_us_per_request for each in rounds["nginx"]]))


def chat_notes(rounds: dict[str, list[ChatRound]]) -> list[str]:
    """Verdicts on the goals, and what makes a figure doubtful."""
    notes: list[str] = []
    for name in ("sentinel", "target"):
        if name in rounds:
            notes += verdict(f"{name}: CPU against nginx", chat_ratio(rounds, name), CHAT_CPU_GOAL, "x")
            p99 = spread(each.wrk.p99_ms for each in rounds[name])
            notes += verdict(f"{name}: p99", p99, CHAT_P99_GOAL_MS, " ms")
    ceiling = spread(each.requests_per_s for each in rounds.get(CEILING, []))
    for name, done in rounds.items():
        rate = spread(each.requests_per_s for each in done)
        if name != CEILING and ceiling and rate and rate.median > _NEAR_CEILING * ceiling.median:
            notes.append(f"{name} is within 10 % of the upstream's own ceiling: its req/s says little, its CPU stands")
    return notes


def verdict(what: str, figure: Spread | None, goal: float, unit: str) -> list[str]:
    if figure is None:
        return []
    met = "met" if figure.median <= goal else "NOT met"
    return [f"{what} {figure.median:.2f}{unit}, goal ≤ {goal:g}{unit}: {met}"]


def _sse_table(results: SseResults) -> Table:
    title = f"sse: {results.streams} streams at {results.frames_per_s:g} frames/s of {results.frame_bytes} B"
    table = Table(title=f"{title} (median of rounds, IQR)")
    columns = ("peer", "CPU µs/frame", "x nginx", "frames/s", "delay p50 ms", "delay p99 ms", "coalesced", "bad")
    for column in columns:
        table.add_column(column, justify="left" if column == "peer" else "right")
    for name, done in results.rounds.items():
        table.add_row(
            name,
            _text(spread(each.cpu_us_per_frame for each in done)),
            _text(results.ratio(name), digits=2) if name != "nginx" else "1",
            _text(spread(each.frames_per_s for each in done), digits=0),
            _text(spread(each.delay_p50_ms for each in done), digits=2),
            _text(spread(each.delay_p99_ms for each in done), digits=2),
            _text(spread(each.coalesced_share for each in done), digits=4),
            str(sum(each.bad_frames for each in done)),
        )
    table.caption = f"goal for sentinel: CPU ≤ {SSE_CPU_GOAL}x nginx; bad (lost, reordered, altered) = 0"
    return table


def _text(figure: Spread | None, digits: int = 1) -> str:
    if figure is None:
        return "unknown"
    spread_text = "" if figure.iqr is None else f" ±{figure.iqr / 2:,.{digits}f}"
    return f"{figure.median:,.{digits}f}{spread_text}"
