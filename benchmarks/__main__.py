"""``python -m benchmarks`` (``make bench``): measure Sentinel beside nginx on this machine, in one run.

Data on stdout (the table) and in a JSON file; progress on stderr. Exit status 2: something the run needs is missing.
"""

import os
import secrets
import signal
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import click

from benchmarks import chat, machine, nginx, report, sse
from benchmarks.plan import PEERS, Options, open_chat_peers
from benchmarks.processes import Bench, BenchError


@click.command()
@click.option("--scenario", type=click.Choice(["chat", "sse", "all"]), default="all", show_default=True)
@click.option("--seconds", default=8, show_default=True, help="length of one round of one peer")
@click.option("--rounds", default=5, show_default=True)
@click.option("--only", default="", help=f"peers, separated by commas: {', '.join(PEERS)}")
@click.option("--target", help="URL of a proxy that already runs (its upstream: see --serve-upstream)")
@click.option("--pid", type=int, help="root of the target's process tree, whose CPU time is counted")
@click.option(
    "--streams", default=800, show_default=True, help="sse: open streams, scaled down where the baseline lags"
)
@click.option("--core", default=0, show_default=True, help="core of the system under test")
@click.option("--load-core", default=1, show_default=True, help="core of upstream, load generator and stores")
@click.option(
    "--serve-upstream", type=int, metavar="PORT", help="only run the zero-delay upstream there, until stopped"
)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="raw results go here")
def command(
    *,
    scenario: str,
    seconds: int,
    rounds: int,
    only: str,
    target: str | None,
    pid: int | None,
    streams: int,
    core: int,
    load_core: int,
    serve_upstream: int | None,
    json_path: Path | None,
) -> None:
    """Measure Sentinel beside nginx `proxy_pass` in one run.

    edge is nginx in front of Sentinel, verdict an nginx that forwards by itself and asks Sentinel; both count together.
    The key is random for each run; BENCH_KEY sets it, where a target knows only certain keys.
    """
    names = tuple(name.strip() for name in only.split(",") if name.strip()) or ("nginx", "sentinel")
    options = Options(
        peers=names + (("target",) if target and "target" not in names else ()),
        seconds=max(1, seconds),
        rounds=max(1, rounds),
        streams=max(1, streams),
        core=core,
        load_core=load_core,
        key=os.environ.get("BENCH_KEY") or "sk-" + secrets.token_hex(24),
        target=target,
        target_pid=pid,
    )
    _need_tools(options)
    signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryDirectory(prefix="sentinel-bench-") as folder:
        # nginx's worker, which gives root away, has to reach its temporary folders.
        Path(folder).chmod(0o755)
        try:
            if serve_upstream is not None:
                with Bench(Path(folder)) as bench:
                    _serve_upstream(bench, options, serve_upstream)
            _measure(Path(folder), options, scenario, json_path)
        except BenchError as error:
            print(f"bench: {error}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print("bench: stopped, everything it started is down", file=sys.stderr)
            sys.exit(130)


def _measure(folder: Path, options: Options, scenario: str, json_path: Path | None) -> None:
    """Each scenario starts its own processes and ends them, so that none of them shares the core with the next."""
    results = report.Results(machine=machine.describe(), options=options.public())
    if scenario in ("chat", "all"):
        with _bench_in(folder / "chat") as bench:
            results.chat = _measure_chat(bench, options)
    if scenario in ("sse", "all"):
        with _bench_in(folder / "sse") as bench:
            results.sse = sse.run(bench, options, say=_say)
    report.show(results)
    path = report.write(results, json_path)
    _say(f"raw results: {path}")


def _measure_chat(bench: Bench, options: Options) -> dict[str, list[chat.ChatRound]]:
    peers, ceiling = open_chat_peers(bench, options, say=_say)
    return chat.run(
        [*peers, ceiling],
        bench,
        rounds=options.rounds,
        seconds=options.seconds,
        core=options.load_core,
        key=options.key,
        say=_say,
    )


def _bench_in(folder: Path) -> Bench:
    # nginx's worker, which gives root away, has to reach its temporary folders.
    folder.mkdir()
    folder.chmod(0o755)
    return Bench(folder)


def _serve_upstream(bench: Bench, options: Options, port: int) -> NoReturn:
    nginx.start_upstream(bench, port=port, core=options.load_core)
    _say(f"zero-delay upstream at http://127.0.0.1:{port}; Ctrl-C stops it")
    while True:
        signal.pause()


def _need_tools(options: Options) -> None:
    missing = machine.missing_tools()
    if missing:
        print(f"bench: missing {', '.join(missing)}; on Debian: apt-get install nginx-light wrk", file=sys.stderr)
        sys.exit(2)
    if (os.cpu_count() or 1) < 2 or not {options.core, options.load_core} <= os.sched_getaffinity(0):
        print("bench: needs two cores, one for the system under test (see --core, --load-core)", file=sys.stderr)
        sys.exit(2)
    unknown = set(options.peers) - set(PEERS)
    if unknown or ("target" in options.peers and not options.target):
        print(f"bench: --only takes {', '.join(PEERS)}, the last together with --target", file=sys.stderr)
        sys.exit(2)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    command()
