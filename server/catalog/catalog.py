"""The catalog of a data directory: the database and its tables."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from ostinato.server.catalog.audit import Audit
from ostinato.server.catalog.backtests import Backtests
from ostinato.server.catalog.cursors import Cursors
from ostinato.server.catalog.database import Database
from ostinato.server.catalog.definitions import DefinitionTables
from ostinato.server.catalog.facts import Facts
from ostinato.server.catalog.migrations import MIGRATIONS
from ostinato.server.catalog.outputs import Outputs
from ostinato.server.catalog.submitted import SubmittedJobs
from ostinato.server.catalog.tokens import Tokens

FILE = "catalog.sqlite"


class Catalog:
    """All tables over one database. Calls block: from an event loop, go through `database.run`."""

    def __init__(self, folder: Path) -> None:
        """Open the catalog of a data directory, or make it.

        Raises:
            CatalogError: it cannot be used.
        """
        self.database = Database(folder / FILE, MIGRATIONS)
        try:
            self.facts = Facts(self.database)
            self.tokens = Tokens(self.database)
            self.audit = Audit(self.database)
            self.cursors = Cursors(self.database)
            self.outputs = Outputs(self.database)
            self.definitions = DefinitionTables(self.database)
            self.jobs = SubmittedJobs(self.database)
            self.backtests = Backtests(self.database)
        except BaseException:
            self.database.close()
            raise

    def close(self) -> None:
        """Write what is still in memory, and close the file."""
        try:
            self.tokens.write_used(all_of_them=True)
        finally:
            self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
