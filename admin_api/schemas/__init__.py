"""The wire contract: what the admin API takes and gives, as msgspec structs. Imports nothing of the control plane.

Field names are snake_case, times ISO 8601 in UTC, networks and addresses canonical text, ids integers.
"""
