"""Every read of the control plane: what lists, pages and look-ups ask of PostgreSQL."""
