"""The roof's exceptions. Their messages are for the person at the terminal: what happened, what to do."""


class SentinelError(Exception):
    """Root of the family; the command prints it as one line and exits with status 1."""


class DirectoryRefused(SentinelError):
    """The data directory cannot be used as it is; nothing was changed in it."""


class DirectoryInUse(DirectoryRefused):
    """Another process holds the data directory's lock."""


class ProcessFailed(SentinelError):
    """A process of ours did not start, did not become ready in time, or ended by itself."""
