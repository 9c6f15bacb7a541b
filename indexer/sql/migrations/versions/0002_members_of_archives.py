"""Members of archives and mails, and the URL that a document was fetched from"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "member",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("document_id", sa.String(), nullable=True),
        sa.Column("member_version_id", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("version_id", "position"),
    )
    op.create_index("ix_member_document_id", "member", ["document_id"])
    op.create_index("ix_member_member_version_id", "member", ["member_version_id"])
    op.add_column("document", sa.Column("parent_id", sa.String(), nullable=True))
    op.add_column("document", sa.Column("source", sa.String(), nullable=True))
    op.create_index("ix_document_parent_id", "document", ["parent_id"])
    op.add_column("job", sa.Column("parent_id", sa.String(), nullable=True))
    op.create_index("ix_job_parent_id", "job", ["parent_id"])
