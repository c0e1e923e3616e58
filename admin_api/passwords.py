"""Passwords: how they are hashed and compared (Argon2id), without holding up the event loop or filling the memory.

Where it stands in the walk: `operations.sessions` compares, `operations.operators` and the local command hash.

Rules for whoever edits this file:

- A comparison with an operator who is not there costs what one with an operator costs: `Passwords.matches` never
  returns early.
- Each hash takes 64 MiB while it is made: how many are made at once is bounded. Those who have signed in from their
  address before do not queue with strangers, so that a flood of strangers cannot keep them waiting.
"""

import asyncio
import base64
import os
import secrets
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from admin_api.errors import InvalidInput, TooManyAttempts
from admin_api.settings import PASSWORD_MIN_CHARACTERS

PASSWORD_MAX_CHARACTERS: Final = 1024
AT_ONCE = 2
STRANGERS_WAITING_MAX = 64
BUSY_RETRY_AFTER_S = 5


class Passwords:
    """One a process."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._nobodys = _hash_of_nobody(self._hasher)
        self._known = asyncio.Semaphore(AT_ONCE)
        self._strangers = asyncio.Semaphore(AT_ONCE)
        self._strangers_waiting = 0

    async def hash(self, password: str) -> str:
        """For storing. Raises InvalidInput for what is too short or too long."""
        refuse_weak(password)
        async with self._known:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, password_hash: str | None, password: str, *, stranger: bool) -> bool:
        """None: there is no such operator. Raises TooManyAttempts when too many strangers wait already."""
        if not stranger:
            async with self._known:
                return await asyncio.to_thread(self._matches, password_hash, password)
        if self._strangers_waiting >= STRANGERS_WAITING_MAX:
            raise TooManyAttempts("too many sign in at once", retry_after_s=BUSY_RETRY_AFTER_S)
        self._strangers_waiting += 1
        try:
            async with self._strangers:
                return await asyncio.to_thread(self._matches, password_hash, password)
        finally:
            self._strangers_waiting -= 1

    def is_outdated(self, password_hash: str) -> bool:
        """Made with other costs than today's: to be made anew while the password is at hand."""
        return self._hasher.check_needs_rehash(password_hash)

    def _matches(self, password_hash: str | None, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash or self._nobodys, password) and password_hash is not None
        except (VerificationError, InvalidHashError):
            return False


def hash_now(password: str) -> str:
    """For the local command, which has no event loop to hold up."""
    refuse_weak(password)
    return PasswordHasher().hash(password)


def generate() -> str:
    return secrets.token_urlsafe(18)


def refuse_weak(password: str) -> None:
    if len(password) < PASSWORD_MIN_CHARACTERS:
        fault = f"is shorter than {PASSWORD_MIN_CHARACTERS} characters"
    elif len(password) > PASSWORD_MAX_CHARACTERS:
        fault = f"is longer than {PASSWORD_MAX_CHARACTERS} characters"
    elif len(set(password)) == 1:
        fault = "is one character repeated"
    else:
        return
    raise InvalidInput(f"the password {fault}", faults=[{"field": "password", "detail": fault}])


def _hash_of_nobody(hasher: PasswordHasher) -> str:
    """Has the costs of a real one and matches nothing: its digest was drawn, not computed."""
    salt, digest = (
        base64.b64encode(os.urandom(size)).rstrip(b"=").decode() for size in (hasher.salt_len, hasher.hash_len)
    )
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${costs}${salt}${digest}"
