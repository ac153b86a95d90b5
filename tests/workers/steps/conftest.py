"""The steps of the baselines on either database."""

from tests.storage.conftest import (
    database,
    migrated_postgres,
    migrated_sqlite,
    postgres,
    postgresql_url,
    sqlite_url,
    url,
)

__all__ = ["database", "migrated_postgres", "migrated_sqlite", "postgres", "postgresql_url", "sqlite_url", "url"]
