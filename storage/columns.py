"""The types of the SQL tables' columns, and the database's clock.

Times are seconds since the epoch by the database's clock, so that they compare the same
way on every database.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, Dialect, Float, Table, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator
from sqlmodel import SQLModel


class Now(FunctionElement[float]):
    """The database's clock: seconds since the epoch, at the moment of execution."""

    type = Float()
    inherit_cache = True


@compiles(Now, "sqlite")
def _now_sqlite(_element: Now, _compiler: SQLCompiler, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Now, "postgresql")
def _now_postgresql(_element: Now, _compiler: SQLCompiler, **_options: Any) -> str:
    return "extract(epoch from clock_timestamp())"


class Integers(TypeDecorator[tuple[int, ...]]):
    """A short tuple of integers, kept as ``3,1,2``."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[int, ...] | None, dialect: Dialect) -> str | None:
        """From tuple to text."""
        return None if value is None else ",".join(map(str, value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[int, ...] | None:
        """From text to tuple."""
        if value is None:
            return None
        return tuple(map(int, value.split(","))) if value else ()


def json_column() -> Any:
    """A column of JSON; assigned whole, never changed in place."""
    return Column(JSON, nullable=False)


def integers_column() -> Any:
    """A column of a short tuple of integers."""
    return Column(Integers, nullable=False)


def double_column(*, nullable: bool = True) -> Any:
    """A column of a number in double precision, such as a time."""
    return Column(Float(53), nullable=nullable)


def table_of(row: type[SQLModel]) -> Table:
    """The SQL table behind a row's class, for statements."""
    table = SQLModel.metadata.tables[str(row.__tablename__)]
    assert isinstance(table, Table)
    return table
