"""Bindings, intercepts by month, the ledger of applied event batches, live settings.

Written as SQL: what matters here (partitions, operator classes, the function) has no other spelling. Going back is
restoring a backup: there is no downgrade that would not throw away bindings.
"""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    for statement in (*BINDINGS, *INTERCEPTS, *LEDGER, SETTINGS):
        op.execute(statement)
    op.execute("SELECT intercept_ensure_partitions(now(), 3)")


BINDINGS = (
    "CREATE SEQUENCE binding_version_seq",
    """
    CREATE TABLE binding (
        id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_binding PRIMARY KEY,
        key_hash bytea NOT NULL CONSTRAINT uq_binding_key_hash UNIQUE
            CONSTRAINT ck_binding_key_hash_is_sha256 CHECK (octet_length(key_hash) = 32),
        key_hint text NOT NULL,
        status text NOT NULL DEFAULT 'active' CONSTRAINT ck_binding_status_known CHECK (status IN ('active', 'banned')),
        ban_reason text,
        ban_expires_at timestamptz,
        mode text CONSTRAINT ck_binding_mode_known CHECK (mode IN ('enforce', 'observe')),
        note text NOT NULL DEFAULT '',
        first_used_at timestamptz NOT NULL,
        last_used_at timestamptz NOT NULL,
        last_ip inet,
        request_count bigint NOT NULL DEFAULT 0,
        intercept_count bigint NOT NULL DEFAULT 0,
        version bigint NOT NULL DEFAULT nextval('binding_version_seq')
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX ix_binding_last_used_at ON binding (last_used_at, id)",
    "CREATE INDEX ix_binding_banned ON binding (id) WHERE status = 'banned'",
    """
    CREATE TABLE binding_network (
        id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_binding_network PRIMARY KEY,
        binding_id bigint NOT NULL
            CONSTRAINT fk_binding_network_binding_id_binding REFERENCES binding (id) ON DELETE CASCADE,
        network cidr NOT NULL,
        source text NOT NULL
            CONSTRAINT ck_binding_network_source_known CHECK (source IN ('first_use', 'learned', 'operator')),
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz
    )
    """,
    "CREATE UNIQUE INDEX uq_binding_network_binding_id ON binding_network (binding_id, network)",
    "CREATE INDEX ix_binding_network_network ON binding_network USING gist (network inet_ops)",
)

INTERCEPTS = (
    """
    CREATE TABLE intercept (
        event_id bytea NOT NULL,
        at timestamptz NOT NULL,
        key_hash bytea NOT NULL,
        key_hint text NOT NULL,
        client inet,
        bound_networks cidr[] NOT NULL DEFAULT '{}',
        reason text NOT NULL,
        enforced boolean NOT NULL,
        method text NOT NULL,
        path text NOT NULL,
        user_agent text NOT NULL,
        gateway text NOT NULL,
        repeat_count bigint NOT NULL DEFAULT 1,
        CONSTRAINT pk_intercept PRIMARY KEY (event_id, at)
    ) PARTITION BY RANGE (at)
    """,
    "CREATE INDEX ix_intercept_at ON intercept (at, event_id)",
    "CREATE INDEX ix_intercept_key_hash ON intercept (key_hash, at)",
    "CREATE INDEX ix_intercept_client ON intercept (client, at)",
    "CREATE TABLE intercept_default PARTITION OF intercept DEFAULT",
    # A month that already has rows in the default partition gets them moved: PostgreSQL refuses to attach it otherwise.
    """
    CREATE FUNCTION intercept_ensure_partitions(first_month timestamptz, months integer) RETURNS integer
    LANGUAGE plpgsql AS $$
    DECLARE
        starts timestamp := date_trunc('month', first_month AT TIME ZONE 'UTC');
        lower_bound timestamptz;
        upper_bound timestamptz;
        partition text;
        made integer := 0;
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtext('intercept_ensure_partitions'));
        FOR step IN 0 .. months - 1 LOOP
            lower_bound := (starts + make_interval(months => step)) AT TIME ZONE 'UTC';
            upper_bound := (starts + make_interval(months => step + 1)) AT TIME ZONE 'UTC';
            partition := 'intercept_' || to_char(lower_bound AT TIME ZONE 'UTC', 'YYYY_MM');
            CONTINUE WHEN to_regclass(partition) IS NOT NULL;
            LOCK TABLE intercept_default IN ACCESS EXCLUSIVE MODE;
            EXECUTE format('CREATE TABLE %I (LIKE intercept INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition);
            EXECUTE format(
                'WITH moved AS (DELETE FROM intercept_default WHERE at >= %L AND at < %L RETURNING *) '
                'INSERT INTO %I SELECT * FROM moved', lower_bound, upper_bound, partition);
            EXECUTE format(
                'ALTER TABLE intercept ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                partition, lower_bound, upper_bound);
            made := made + 1;
        END LOOP;
        RETURN made;
    END $$
    """,
)

LEDGER = (
    """
    CREATE TABLE ingest_batch (
        batch_id bytea CONSTRAINT pk_ingest_batch PRIMARY KEY,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX ix_ingest_batch_applied_at ON ingest_batch (applied_at)",
)

SETTINGS = """
    CREATE TABLE runtime_setting (
        version bigint CONSTRAINT pk_runtime_setting PRIMARY KEY
            CONSTRAINT ck_runtime_setting_version_positive CHECK (version > 0),
        "values" jsonb NOT NULL
            CONSTRAINT ck_runtime_setting_values_is_object CHECK (jsonb_typeof("values") = 'object'),
        changed_by text NOT NULL,
        changed_at timestamptz NOT NULL DEFAULT now()
    )
"""
