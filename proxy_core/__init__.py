"""The data plane: what happens to one request between its arrival and its answer."""
