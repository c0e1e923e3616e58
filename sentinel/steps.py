"""Owns what a person sees while `up` starts and stops things: one line a step, on stderr."""

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console


class Steps:
    """Named steps: a spinner and then a tick on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            with self._console.status(f"{name} …") if self._console.is_terminal else contextlib.nullcontext():
                yield
        except BaseException:
            self._console.print(f"[red]✗[/red] {name}")
            raise
        self._console.print(f"[green]✓[/green] {name} [dim]({time.monotonic() - began:.1f} s)[/dim]")

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)
