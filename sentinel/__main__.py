"""``python -m sentinel``: the same as the command."""

from sentinel.cli import main

main()
