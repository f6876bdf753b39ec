"""What the server keeps besides its logs, in DATA/catalog.sqlite."""

from ostinato.server.catalog.audit import Audit, AuditEntry
from ostinato.server.catalog.catalog import Catalog
from ostinato.server.catalog.cursors import Cursors
from ostinato.server.catalog.database import (
    CatalogError,
    CatalogFullError,
    Database,
    Migration,
    NewerCatalogError,
)
from ostinato.server.catalog.facts import Facts
from ostinato.server.catalog.outputs import Outputs, StoredOutput
from ostinato.server.catalog.tokens import LastOperatorError, Role, Token, TokenExistsError, Tokens

__all__ = [
    "Audit",
    "AuditEntry",
    "Catalog",
    "CatalogError",
    "CatalogFullError",
    "Cursors",
    "Database",
    "Facts",
    "LastOperatorError",
    "Migration",
    "NewerCatalogError",
    "Outputs",
    "Role",
    "StoredOutput",
    "Token",
    "TokenExistsError",
    "Tokens",
]
