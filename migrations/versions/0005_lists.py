"""An index for each filter of a list that had none, so that what is rare or unknown is not looked for in every row; and
a column less: every refresh token is signed, so one that is not the latest needs no hash to be known for used.

Made in the migration's transaction: at ten million rows, claims and ingestion wait some seconds for it.
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for statement in (*INDEXES, "ALTER TABLE admin_session DROP COLUMN used_refresh_hash"):
        op.execute(statement)


INDEXES = (
    "CREATE INDEX ix_binding_mode ON binding (mode, id) WHERE mode IS NOT NULL",
    "CREATE INDEX ix_binding_noted ON binding (id) WHERE note <> ''",
    "CREATE INDEX ix_intercept_gateway ON intercept (gateway, at)",
    "CREATE INDEX ix_binding_archive_key_hint ON binding_archive (lower(key_hint) text_pattern_ops, archived_at)",
    "CREATE INDEX ix_binding_archive_restored ON binding_archive (archived_at, id) WHERE restored_at IS NOT NULL",
    "CREATE INDEX ix_alert_delivery_dead ON alert_delivery (alert_id) WHERE state = 'dead'",
    "CREATE INDEX ix_admin_audit_action ON admin_audit (action text_pattern_ops, id)",
    "CREATE INDEX ix_admin_audit_at ON admin_audit (at, id)",
)
