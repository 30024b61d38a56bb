"""The database's schema over time, for alembic."""
