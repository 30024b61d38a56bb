"""Alembic runs this to apply migrations over the connection that `services.gateway.voices.migrate` has opened."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
