"""What the process was told from outside, as the settings will see it: ``.env``, and above it the environment."""

import os

from dotenv import dotenv_values


def surroundings() -> dict[str, str]:
    """Empty values count as not given, as they do for `proxy_core.settings`."""
    given = {name: value for name, value in dotenv_values(".env").items() if value}
    return given | {name: value for name, value in os.environ.items() if value}
