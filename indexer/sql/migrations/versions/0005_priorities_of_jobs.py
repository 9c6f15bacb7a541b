"""Which jobs go first"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("job", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.create_index(
        "job_turn", "job", ["status", "priority", "collection_id", "created", "not_before"]
    )
