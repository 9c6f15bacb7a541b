"""Alembic's environment: the connection is given by indexer/sql/database.py."""

from alembic import context
from sqlmodel import SQLModel

import indexer.sql.tables  # noqa: F401  (registers the tables)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
