"""The control plane: tables, operators' writes, the admin HTTP API, and the jobs."""
