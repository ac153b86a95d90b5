"""How Alembic reaches the database: by the connection that ``storage.schema`` hands over."""

from alembic import context
from sqlmodel import SQLModel

from defsurvey.storage.runs import tables

FILLED_BY = tables  # importing them fills the metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
