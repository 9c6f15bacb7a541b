"""Which generations are searched in Milvus, and the numbers of their terms"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "place",
        sa.Column("generation_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("mean", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("generation_id"),
    )
    op.create_table(
        "word",
        sa.Column("generation_id", sa.Integer(), nullable=False),
        sa.Column("term", sa.String(), nullable=False),
        sa.Column("number", BIG, nullable=False),
        sa.Column("rows", BIG, nullable=False),
        sa.PrimaryKeyConstraint("generation_id", "term"),
    )
    op.create_index("word_number", "word", ["generation_id", "number"], unique=True)
