"""The schema's history (Alembic), applied by `sentinel migrate` through `migrations.run`."""
