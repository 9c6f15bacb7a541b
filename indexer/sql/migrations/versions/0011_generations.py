"""Which generation of a collection is searched, built, or kept to go back to"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column(
        "generation", sa.Column("state", sa.String(), nullable=False, server_default="live")
    )
