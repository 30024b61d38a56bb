"""Brings the schema of the database to this version's. Imported when a database is opened, not before."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

_FOLDER = Path(__file__).with_name("migrations")
_LOCK = 0x63736D76  # any number that no other program takes as an advisory lock


def migrate(connection: sa.Connection) -> None:
    """Applies what is missing, inside the connection's transaction.

    Gateways that start together wait for each other. Raises alembic's CommandError for a schema of a later version.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    else:  # by itself SQLite takes its lock with the first row, after the tables
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
