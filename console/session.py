"""Who is signed in to the console, and with which tokens. Kept in this process' memory and nowhere else.

Where it stands in the walk: `app` opens a session at sign-in and finds it by the browser's cookie; `client` spends and
renews its tokens.

Rules for whoever edits this file:

- The cookie is a random number and means nothing elsewhere. Tokens never leave the process but towards the admin API:
  not to a browser, a file or a store. A restart therefore signs everybody out, and sends them back where they were.
- A refresh token is good once: whoever renews holds the session's lock.
- Only what a person does counts as use. A page that refreshes itself must not keep a session alive for ever.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable

from admin_api.schemas.auth import Me, SignedIn

COOKIE = "sentinel_session"
RENEW_BEFORE_S = 60.0


class Session:
    """One signed-in browser. ``clock`` counts seconds and never goes back."""

    def __init__(self, signed_in: SignedIn, address: str | None, user_agent: str, clock: Callable[[], float]) -> None:
        self.address = address
        self.user_agent = user_agent
        self.lock = asyncio.Lock()
        self.ended = False
        self._clock = clock
        self.used_at = clock()
        self.renew(signed_in)

    def __repr__(self) -> str:
        return f"<Session of {self.operator.name}{' (ended)' if self.ended else ''}>"

    def renew(self, signed_in: SignedIn) -> None:
        self.operator: Me = signed_in.operator
        self.access_token = signed_in.access_token
        self.refresh_token = signed_in.refresh_token
        self._good_until = self._clock() + signed_in.expires_in_s

    @property
    def needs_renewal(self) -> bool:
        return self._clock() > self._good_until - RENEW_BEFORE_S

    def may(self, scope: str) -> bool:
        return scope in self.operator.scopes

    def touch(self) -> None:
        """A person did something."""
        self.used_at = self._clock()


class Sessions:
    """All of this process. ``idle_s`` 0: no time-out."""

    def __init__(self, idle_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s = idle_s
        self._clock = clock
        self._by_digest: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_digest)

    def open(self, signed_in: SignedIn, address: str | None, user_agent: str) -> tuple[str, Session]:
        """The cookie's value, which is known to the browser alone from here on, and the session."""
        cookie = secrets.token_urlsafe(32)
        session = Session(signed_in, address, user_agent, self._clock)
        self._by_digest[_digest(cookie)] = session
        return cookie, session

    def find(self, cookie: str | None) -> Session | None:
        session = self._by_digest.get(_digest(cookie)) if cookie else None
        return None if session is None or session.ended or self.is_idle(session) else session

    def is_idle(self, session: Session) -> bool:
        return bool(self._idle_s) and self._clock() - session.used_at > self._idle_s

    def end(self, session: Session) -> None:
        """Idempotent; every tab of the session finds out at its next step."""
        session.ended = True
        for digest in [digest for digest, each in self._by_digest.items() if each is session]:
            del self._by_digest[digest]

    def over(self) -> list[Session]:
        """Those that nobody has used for too long."""
        return [session for session in self._by_digest.values() if session.ended or self.is_idle(session)]


def _digest(cookie: str) -> str:
    """A look-up by digest tells nothing of the cookie by the time that it takes."""
    return hashlib.sha256(cookie.encode()).hexdigest()
