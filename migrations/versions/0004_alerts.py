"""Alerts, the targets that they are sent to, and one row for each delivery of an alert to a target.

A delivery is a row before anything is sent, so that it outlives Redis and any worker.
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for statement in (*TARGETS, *ALERTS, *DELIVERIES):
        op.execute(statement)


TARGETS = (
    """
    CREATE TABLE alert_target (
        id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_alert_target PRIMARY KEY,
        name text NOT NULL,
        kind text NOT NULL CONSTRAINT ck_alert_target_kind_known CHECK (kind IN ('webhook', 'apprise')),
        url text NOT NULL,
        events text[] NOT NULL,
        language text NOT NULL CONSTRAINT ck_alert_target_language_known CHECK (language IN ('en', 'zh-CN')),
        enabled boolean NOT NULL DEFAULT true,
        disabled_because text CONSTRAINT ck_alert_target_disabled_because_known
            CHECK (disabled_because IN ('operator', 'gone', 'setting')),
        from_setting boolean NOT NULL DEFAULT false,
        secrets jsonb NOT NULL DEFAULT '[]'
            CONSTRAINT ck_alert_target_secrets_is_list CHECK (jsonb_typeof(secrets) = 'array'),
        created_by text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        changed_at timestamptz NOT NULL DEFAULT now(),
        version bigint NOT NULL DEFAULT 1
    )
    """,
    "CREATE UNIQUE INDEX uq_alert_target_from_setting ON alert_target (from_setting) WHERE from_setting",
)

ALERTS = (
    """
    CREATE TABLE alert (
        id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_alert PRIMARY KEY,
        message_id uuid NOT NULL DEFAULT gen_random_uuid() CONSTRAINT uq_alert_message_id UNIQUE,
        raised_at timestamptz NOT NULL DEFAULT now(),
        kind text NOT NULL CONSTRAINT ck_alert_kind_known CHECK (kind IN (
            'key_intercepted', 'binding_created', 'binding_banned', 'archive_run', 'store_outage', 'store_recovered'
        )),
        key_hash bytea,
        key_hint text NOT NULL DEFAULT '',
        binding_id bigint,
        enforced_count bigint NOT NULL DEFAULT 0,
        observed_count bigint NOT NULL DEFAULT 0,
        since timestamptz NOT NULL DEFAULT now(),
        last_at timestamptz NOT NULL DEFAULT now(),
        quiet_until timestamptz,
        facts jsonb NOT NULL DEFAULT '{}' CONSTRAINT ck_alert_facts_is_object CHECK (jsonb_typeof(facts) = 'object')
    )
    """,
    "CREATE INDEX ix_alert_raised_at ON alert (raised_at, id)",
    "CREATE INDEX ix_alert_kind ON alert (kind, raised_at, id)",
    "CREATE INDEX ix_alert_key_hash ON alert (key_hash, quiet_until)",
    "CREATE INDEX ix_alert_binding_id ON alert (binding_id, raised_at, id)",
    "CREATE INDEX ix_alert_key_hint ON alert (lower(key_hint) text_pattern_ops, raised_at)",
)

DELIVERIES = (
    """
    CREATE TABLE alert_delivery (
        id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_alert_delivery PRIMARY KEY,
        alert_id bigint NOT NULL
            CONSTRAINT fk_alert_delivery_alert_id_alert REFERENCES alert (id) ON DELETE CASCADE,
        target_id bigint
            CONSTRAINT fk_alert_delivery_target_id_alert_target REFERENCES alert_target (id) ON DELETE SET NULL,
        target_name text NOT NULL,
        target_kind text NOT NULL,
        state text NOT NULL DEFAULT 'pending'
            CONSTRAINT ck_alert_delivery_state_known CHECK (state IN ('pending', 'delivered', 'dead')),
        tries integer NOT NULL DEFAULT 0,
        next_at timestamptz DEFAULT now(),
        created_at timestamptz NOT NULL DEFAULT now(),
        delivered_at timestamptz,
        attempts jsonb NOT NULL DEFAULT '[]'
            CONSTRAINT ck_alert_delivery_attempts_is_list CHECK (jsonb_typeof(attempts) = 'array')
    )
    """,
    "CREATE UNIQUE INDEX uq_alert_delivery_alert_id ON alert_delivery (alert_id, target_id)",
    "CREATE INDEX ix_alert_delivery_target_id ON alert_delivery (target_id)",
    "CREATE INDEX ix_alert_delivery_due ON alert_delivery (next_at) WHERE state = 'pending'",
)
