"""A stub model API: what the demo, the tests and the benchmarks put in the upstream's place.

It answers like New API in front of a model: OpenAI, Anthropic and Gemini dialects, streamed and not, New API's own way
of reading keys and of refusing them, and a set of ``x-stub-*`` request headers that make it misbehave on demand
(`switches`). It holds no state but counters.

The walk: `server` listens → `connection` cuts the byte stream into requests → `routes` turns a request into an answer
made by `dialects`, or a refusal by `keys` → `reply` sends it, paced by `pacing`, bent by `switches`.
"""

from benchmarks.stub.requests import RecordedRequest
from benchmarks.stub.server import StubServer, main

__all__ = ["RecordedRequest", "StubServer", "main"]
