"""A model key in a request's body becomes its identity at once, by the grammar that the gateway reads keys with.

Where it stands in the walk: controllers and imports that are given a key call it before anything else; what they go on
with is the fingerprint and the hint.
"""

from admin_api.errors import InvalidInput
from proxy_core.contracts import KeyIdentity, RequestHead
from proxy_core.credentials import Credentials
from proxy_core.errors import RequestRefused

METHOD, PATH = "POST", b"/v1/chat/completions"


def identify(credentials: Credentials, key: str) -> KeyIdentity:
    """Raises InvalidInput for what the gateway would refuse as no key; the message never quotes it."""
    if key.isascii():
        head = RequestHead(kept=[], authorization=(key.encode(),))
        try:
            found = credentials.read(credentials.classify(METHOD, PATH), METHOD, PATH, b"", head)
        except RequestRefused:
            found = None
        if found is not None:
            return credentials.identify(found)
    raise InvalidInput("the key is malformed", faults=[{"field": "key", "detail": "no key by the gateway's grammar"}])
