"""`sentinel fingerprint`: what the records know a key by. Needs the HMAC secret and the key grammar, no store."""

from pathlib import Path

import click

from proxy_core.contracts import RequestHead
from proxy_core.credentials import Credentials
from proxy_core.errors import RequestRefused
from proxy_core.settings import Settings, load_settings
from sentinel.environment import surroundings
from sentinel.errors import SentinelError
from sentinel.secrets_file import read_secrets
from sentinel.services.directory import default_directory

SECRET = "SENTINEL_HMAC_SECRET"  # noqa: S105 - the name of the variable

# Required by the settings, of no meaning here: given so that the command runs where only the secret is known.
UNUSED = {"downstream_url": "http://unused", "pg_dsn": "postgresql://unused", "redis_url": "redis://unused"}


def fingerprint(line: bytes, data_dir: Path | None = None) -> None:
    """Prints ``<64 hex digits> <hint>`` for the key in ``line``, spelled as in an Authorization header or bare.

    The secret is that of the environment, else of the data directory of `up`. Raises SentinelError and SettingsError.
    """
    settings = _settings(data_dir)
    credentials = Credentials(
        settings.hmac_secret.get_secret_value().encode(),
        settings.upstream_profile,
        settings.key_extra_characters,
        settings.allow_channel_suffix,
    )
    path = b"/v1/chat/completions"
    head = RequestHead([], authorization=(line.strip(),))
    try:
        key = credentials.read(credentials.classify("POST", path), "POST", path, b"", head)
    except RequestRefused:
        raise SentinelError("that is not a key: requests with it are refused as malformed") from None
    if key is None:
        raise SentinelError("no key: write it to stdin, followed by a line end")
    identity = credentials.identify(key)
    click.echo(f"{identity.fingerprint.hex()} {identity.hint}")


def _settings(data_dir: Path | None) -> Settings:
    """The environment goes before the data directory, as it does for `up`."""
    if SECRET in surroundings():
        return load_settings(**UNUSED)
    directory = (data_dir or default_directory()).absolute()
    kept = read_secrets(directory)
    if SECRET not in kept:
        raise SentinelError(f"{SECRET} is not set, and {directory} holds none; choose another with --data-dir")
    return load_settings(**UNUSED, hmac_secret=kept[SECRET])
