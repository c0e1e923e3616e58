"""Background work of the control plane: the SAQ worker, what it runs on a schedule, and the ingestion of events."""
