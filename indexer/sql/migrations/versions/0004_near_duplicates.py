"""What tells that two documents are nearly the same"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "signature",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("minhash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("version_id"),
    )
    op.create_table(
        "band",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("band", BIG, nullable=False),
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("version_id", "band"),
    )
    op.create_index("band_collection", "band", ["collection_id", "band"])
    op.create_table(
        "similar",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("other_id", sa.String(), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("version_id", "other_id"),
    )
    op.create_index("ix_similar_other_id", "similar", ["other_id"])
