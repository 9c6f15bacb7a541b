"""How often the worker of a job died with it"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("job", sa.Column("lost", sa.Integer(), nullable=False, server_default="0"))
