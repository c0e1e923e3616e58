"""How hard the property tests try: few examples in everyday runs, as many as asked for when somebody digs.

``PROPERTY_EXAMPLES=20000 pytest tests/proxy_core`` tries that many random ones; without it the same ones every time.
"""

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "0"))

BOUNDED = settings(
    max_examples=EXAMPLES or 200,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
