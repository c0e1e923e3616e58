"""A clock that a test moves."""


class FakeClock:
    """Stands still until `advance`; starts late enough that "never" is in its past."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
