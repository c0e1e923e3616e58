"""``python -m benchmarks.stub``: the stub model API as a process."""

import os
from pathlib import Path

import click

from benchmarks.stub import main


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=9100, show_default=True, help="0 takes a free one and prints PORT=… on stdout")
@click.option("--key", "keys", multiple=True, help="a key to accept; better in STUB_KEYS or a file: argv is public")
@click.option("--keys-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="one key a line")
@click.option("--any-key", is_flag=True, help="accept every key")
def command(host: str, port: int, keys: tuple[str, ...], keys_file: Path | None, *, any_key: bool) -> None:
    """Serve the stub model API until stopped. Keys come from --key, --keys-file and STUB_KEYS (separated by commas)."""
    accepted = [*keys, *os.environ.get("STUB_KEYS", "").split(",")]
    if keys_file is not None:
        accepted += keys_file.read_text().splitlines()
    main(host, port, [key.strip() for key in accepted if key.strip()], any_key=any_key)


command()
