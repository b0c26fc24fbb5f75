"""Statements that run for every job: SQLAlchemy writes them once, the driver runs them.

Executing a statement by way of SQLAlchemy takes two to three times the processor time that the driver needs
for it (docs/decisions/0014-cheap-claims.md). So what a claim and its end consist of is compiled once, with
the conversions of its types, and then given to the driver's cursor within SQLAlchemy's transaction.
Everything else goes the ordinary way.
"""

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

Row = Mapping[str, Any]
Conversion = Callable[[Any], Any] | None


class Prepared:
    """One statement in the words of one driver.

    Parameters
    ----------
    statement : each run gives its named parameters; the others have values or, as the clock, a callable
    dialect : of an engine that has been connected
    """

    def __init__(self, statement: sa.Select[Any] | sa.UpdateBase, dialect: sa.Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._dialect, self._text = dialect, str(compiled)
        self._names = tuple(compiled.positiontup or ())
        self._binds = {
            name: (bind, bind.type.dialect_impl(dialect).bind_processor(dialect))
            for name, bind in compiled.binds.items()
        }
        self._columns = {column.name: column.type for column in statement.exported_columns}
        self._conversions: list[Conversion] | None = None

    def first(self, conn: sa.Connection, **given: Any) -> Row | None:
        """The first row; None: there is none."""
        return next(iter(self.all(conn, **given)), None)

    def all(self, conn: sa.Connection, **given: Any) -> list[Row]:
        """All rows, by the names of their columns."""
        cursor = run_text(conn, self._text, self._parameters(given))
        if self._conversions is None:  # some depend on what the driver calls the type
            self._conversions = [
                type_.dialect_impl(self._dialect).result_processor(self._dialect, described[1])
                for type_, described in zip(self._columns.values(), cursor.description, strict=True)
            ]
        conversions, names = self._conversions, tuple(self._columns)
        return [
            {
                name: value if convert is None else convert(value)
                for name, value, convert in zip(names, row, conversions, strict=True)
            }
            for row in cursor.fetchall()
        ]

    def changed(self, conn: sa.Connection, **given: Any) -> int:
        """How many rows it changed, of a statement that returns none."""
        return int(run_text(conn, self._text, self._parameters(given)).rowcount)

    def _parameters(self, given: Mapping[str, Any]) -> Any:
        values = {}
        for name, (bind, convert) in self._binds.items():
            value = given[name] if bind.required else bind.effective_value
            values[name] = value if convert is None else convert(value)
        return [values[name] for name in self._names] if self._names else values


def run_text(conn: sa.Connection, text: str, parameters: Any = ()) -> Any:
    """The driver's cursor after `text`, in the transaction of `conn`; its errors are those of SQLAlchemy."""
    driver = conn.dialect.loaded_dbapi
    cursor = conn.connection.cursor()
    try:
        cursor.execute(text, parameters)
    except driver.Error as error:
        raise sa.exc.DBAPIError.instance(
            text, None, error, driver.Error, hide_parameters=True, dialect=conn.dialect
        ) from error
    return cursor
