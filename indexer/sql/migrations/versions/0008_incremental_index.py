"""What lets a reader and a publisher look at what is new alone"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column(
        "generation", sa.Column("horizon", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("segment", sa.Column("dead", sa.Integer(), nullable=True))
    op.add_column(
        "segment", sa.Column("merged", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("tombstone", sa.Column("epoch", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(
        "tombstone", sa.Column("words", sa.Boolean(), nullable=False, server_default=sa.true())
    )
    op.create_table(
        "span",
        sa.Column("generation_id", sa.Integer(), nullable=False),
        sa.Column("first", BIG, nullable=False),
        sa.Column("count", BIG, nullable=False),
        sa.Column("segment_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("generation_id", "first"),
    )
    op.create_index("ix_span_segment_id", "span", ["segment_id"])
    op.create_index("tombstone_epoch", "tombstone", ["generation_id", "epoch"])
    op.create_index("tombstone_words", "tombstone", ["generation_id", "words"])
    op.create_index("version_status", "version", ["collection_id", "status"])
    op.drop_index("chunk_document", "chunk")
    op.create_index("chunk_document", "chunk", ["generation_id", "document_id", "key"])
