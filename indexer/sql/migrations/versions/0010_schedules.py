"""Jobs that begin by the clock, and the files of watched folders"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "schedule",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("when", sa.String(), nullable=False),
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=True),
        sa.Column("next", sa.Float(), nullable=False),
        sa.Column("last", sa.Float(), nullable=True),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_schedule_collection_id", "schedule", ["collection_id"])
    op.create_index("ix_schedule_next", "schedule", ["next"])
    op.create_table(
        "watched",
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("folder_key", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("size", BIG, nullable=False),
        sa.Column("changed_ns", BIG, nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("document_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("collection_id", "folder_key", "name"),
    )
    op.create_index("ix_watched_document_id", "watched", ["document_id"])
