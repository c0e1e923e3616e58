"""Every write of the control plane: one transaction, one audit row a subject, then Redis, then the gateways."""
