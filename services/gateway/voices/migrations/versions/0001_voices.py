"""The table of voices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

# In the order of Python's strings, so that a list by name reads the index. SQLite has no other order.
_NAME = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "voices",
        sa.Column("name", _NAME, primary_key=True),
        sa.Column("uid", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("audience", sa.String(16), nullable=False),
        sa.Column("callers", sa.JSON, nullable=False),
        sa.Column("speaker", sa.Integer, nullable=False),
        sa.Column("language_codes", sa.JSON, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=True),
        sa.Column("consent_id", sa.Text, nullable=False),
        sa.Column("consent_text", sa.Text, nullable=False),
        sa.Column("prompt_text", sa.Text, nullable=False),
        sa.Column("prompt_frames", sa.Integer, nullable=False),
        sa.Column("prompt_level_db", sa.Float, nullable=True),
        sa.Column("codec", sa.JSON, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("codes", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )
    op.create_index("voices_by_owner", "voices", ["owner"], if_not_exists=True)
    op.create_index("voices_by_uid", "voices", ["uid"], if_not_exists=True)


def downgrade() -> None:
    op.drop_table("voices")
