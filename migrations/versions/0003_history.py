"""History of figures by the hour, and the TCP peer of an intercepted request."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for statement in (*HISTORY, PEER):
        op.execute(statement)


HISTORY = (
    """
    CREATE TABLE hourly_metric (
        at timestamptz NOT NULL,
        part text NOT NULL,
        requests bigint NOT NULL,
        allowed bigint NOT NULL,
        intercepted bigint NOT NULL,
        observed bigint NOT NULL,
        claims bigint NOT NULL,
        errors jsonb NOT NULL,
        bytes_in bigint NOT NULL,
        bytes_out bigint NOT NULL,
        added_time bigint[] NOT NULL,
        partial boolean NOT NULL,
        CONSTRAINT pk_hourly_metric PRIMARY KEY (at, part)
    )
    """,
    """
    CREATE TABLE distinct_metric (
        step text NOT NULL CONSTRAINT ck_distinct_metric_step_known CHECK (step IN ('hour', 'day')),
        at timestamptz NOT NULL,
        keys bigint NOT NULL,
        addresses bigint NOT NULL,
        CONSTRAINT pk_distinct_metric PRIMARY KEY (step, at)
    )
    """,
)

PEER = "ALTER TABLE intercept ADD COLUMN peer inet"
