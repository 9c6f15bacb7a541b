"""What jobs of other kinds than reading a file are given, leave behind, and went wrong with"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("job", sa.Column("payload", sa.JSON(), nullable=True))
    op.add_column("job", sa.Column("result", sa.JSON(), nullable=True))
    op.add_column("job", sa.Column("traceback", sa.Text(), nullable=True))
