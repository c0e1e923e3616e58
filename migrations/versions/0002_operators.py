"""Operators and their sessions, service tokens, the audit of what they do, and the archive of removed bindings.

Beside them the indexes that the lists of bindings and intercepts need: each sort order is one index scan.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for statement in (*OPERATORS, *AUDIT, *ARCHIVE, *LISTS):
        op.execute(statement)


OPERATORS = (
    """
    CREATE TABLE admin_user (
        id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_admin_user PRIMARY KEY,
        name text NOT NULL,
        role text NOT NULL CONSTRAINT ck_admin_user_role_known CHECK (role IN ('admin', 'operator', 'viewer')),
        password_hash text NOT NULL,
        disabled boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT now(),
        password_changed_at timestamptz NOT NULL DEFAULT now(),
        last_login_at timestamptz,
        version bigint NOT NULL DEFAULT 1
    )
    """,
    "CREATE UNIQUE INDEX uq_admin_user_name ON admin_user (lower(name))",
    """
    CREATE TABLE admin_session (
        id uuid CONSTRAINT pk_admin_session PRIMARY KEY,
        user_id bigint NOT NULL
            CONSTRAINT fk_admin_session_user_id_admin_user REFERENCES admin_user (id) ON DELETE CASCADE,
        refresh_hash bytea NOT NULL CONSTRAINT uq_admin_session_refresh_hash UNIQUE,
        used_refresh_hash bytea,
        created_at timestamptz NOT NULL DEFAULT now(),
        used_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        revoked_at timestamptz,
        address inet,
        user_agent text NOT NULL DEFAULT ''
    )
    """,
    "CREATE INDEX ix_admin_session_user_id ON admin_session (user_id, created_at)",
    """
    CREATE TABLE service_token (
        id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_service_token PRIMARY KEY,
        name text NOT NULL,
        token_hash bytea NOT NULL CONSTRAINT uq_service_token_token_hash UNIQUE,
        hint text NOT NULL,
        scopes text[] NOT NULL,
        networks cidr[] NOT NULL DEFAULT '{}',
        created_by text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz,
        used_at timestamptz,
        revoked_at timestamptz
    )
    """,
)

AUDIT = (
    """
    CREATE TABLE admin_audit (
        id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_admin_audit PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now(),
        actor_kind text NOT NULL
            CONSTRAINT ck_admin_audit_actor_kind_known CHECK (actor_kind IN ('user', 'token', 'system', 'local')),
        actor text NOT NULL,
        address inet,
        action text NOT NULL,
        subject_kind text NOT NULL,
        subject_id text NOT NULL,
        subject_name text NOT NULL DEFAULT '',
        reason text NOT NULL DEFAULT '',
        before jsonb,
        after jsonb,
        request_id text NOT NULL DEFAULT ''
    )
    """,
    "CREATE INDEX ix_admin_audit_subject ON admin_audit (subject_kind, subject_id, id)",
    "CREATE INDEX ix_admin_audit_actor ON admin_audit (actor, id)",
)

ARCHIVE = (
    """
    CREATE TABLE binding_archive (
        id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_binding_archive PRIMARY KEY,
        binding_id bigint NOT NULL,
        key_hash bytea NOT NULL,
        key_hint text NOT NULL,
        mode text,
        note text NOT NULL,
        networks jsonb NOT NULL,
        first_used_at timestamptz NOT NULL,
        last_used_at timestamptz NOT NULL,
        last_ip inet,
        request_count bigint NOT NULL,
        intercept_count bigint NOT NULL,
        archived_at timestamptz NOT NULL DEFAULT now(),
        archived_by text NOT NULL,
        cause text NOT NULL CONSTRAINT ck_binding_archive_cause_known CHECK (cause IN ('unbound', 'unused')),
        restored_at timestamptz
    )
    """,
    "CREATE INDEX ix_binding_archive_key_hash ON binding_archive (key_hash, archived_at)",
    "CREATE INDEX ix_binding_archive_archived_at ON binding_archive (archived_at, id)",
    "CREATE INDEX ix_binding_archive_binding_id ON binding_archive (binding_id, id)",
)

LISTS = (
    "CREATE INDEX ix_binding_first_used_at ON binding (first_used_at, id)",
    "CREATE INDEX ix_binding_intercept_count ON binding (intercept_count, id)",
    "CREATE INDEX ix_binding_request_count ON binding (request_count, id)",
    "CREATE INDEX ix_binding_key_hint ON binding (lower(key_hint) text_pattern_ops, id)",
    "CREATE INDEX ix_intercept_reason ON intercept (reason, at, event_id)",
    "CREATE INDEX ix_intercept_observed ON intercept (at, event_id) WHERE NOT enforced",
    "CREATE INDEX ix_intercept_key_hint ON intercept (lower(key_hint) text_pattern_ops, at)",
)
