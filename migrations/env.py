"""Alembic's entry. Only `migrations.run` comes here, with a connection that is in a transaction already."""

from alembic import context

from admin_api.models import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
