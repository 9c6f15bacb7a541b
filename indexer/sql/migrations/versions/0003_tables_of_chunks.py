"""The rows of tables in a chunk"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("chunk", sa.Column("tables", sa.Text(), nullable=True))
