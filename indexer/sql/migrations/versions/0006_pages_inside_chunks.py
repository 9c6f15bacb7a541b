"""Pages that begin inside a chunk"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("chunk", sa.Column("turns", sa.Text(), nullable=True))
