"""RocksDB as scratch space: many small records, read and written in bulk, in bounded memory.

What is in it is never relied on after a restart (that is what checkpoints are for), so nothing is logged ahead or
synced, and a database that is found in the folder is thrown away.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from ostinato.state.errors import StateError

if TYPE_CHECKING:
    from rocksdict import Options, Rdict, Snapshot

CACHE_BYTES: Final = 128 << 20
"""Blocks, indexes and filters that are kept in memory, unless told otherwise."""
WRITE_BUFFER_BYTES: Final = 64 << 20
"""What is written is collected to this size before it is sorted into a file; two such buffers exist at most."""
_BLOOM_BITS: Final = 10
"""Per key: one look-up in a hundred goes to a file that does not have the key."""
_BLOCK_BYTES: Final = 4 << 10
"""Records are small and read at random: a larger block would be read and unpacked for one of them."""
_BACKGROUND_JOBS: Final = 2
"""Flushing and compaction; workers share the machine with each other."""

_FILES: Final = ("CURRENT", "IDENTITY", "LOCK", "LOG", "MANIFEST-", "OPTIONS-", "rocksdict-config")


class RocksError(StateError):
    """The local database failed; the message says where it is and why."""


class Rocks:
    """Records in a folder of their own; keys and values are bytes. For one thread at a time."""

    def __init__(
        self, path: str | Path, cache_bytes: int = CACHE_BYTES, write_buffer_bytes: int = WRITE_BUFFER_BYTES
    ) -> None:
        """Start empty: a database that is in the folder is deleted.

        Raises:
            RocksError: the folder cannot be used, or holds other files.
        """
        import rocksdict

        self.path = Path(path)
        self._batch = rocksdict.WriteBatch
        self._read_options = rocksdict.ReadOptions
        try:
            _wipe(self.path)
            self.path.mkdir(parents=True)
            self._db: Rdict = rocksdict.Rdict(str(self.path), _options(cache_bytes, write_buffer_bytes))
        except RocksError:
            raise
        except Exception as error:  # rocksdict raises bare ones
            raise RocksError(f"{self.path}: cannot be opened as a local database: {error}") from error
        self._unlogged = rocksdict.WriteOptions()
        self._unlogged.disable_wal = True  # type: ignore[method-assign,assignment] # a property, whatever the stub says
        self._db.set_write_options(self._unlogged)

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(key)
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of the keys, None where there is none. Cheaper per key than `get`, more so if they are sorted."""
        if not keys:
            return []
        try:
            values: list[bytes | None] | None = self._db.get(keys if isinstance(keys, list) else list(keys))
        except Exception as error:
            raise self._failed("read", error) from error
        assert values is not None
        return values

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = ()) -> None:
        """Set and delete, all at once."""
        batch = self._batch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in puts:
            put(key, value)
        for key in deletes:
            delete(key)
        try:
            self._db.write(batch, self._unlogged)
        except Exception as error:
            raise self._failed("written", error) from error

    def delete_range(self, begin: bytes, end: bytes) -> None:
        """Delete the records whose key is `begin` or behind it, but before `end`; takes no time."""
        try:
            self._db.delete_range(begin, end)
        except Exception as error:
            raise self._failed("written", error) from error

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """The records whose key begins with `prefix`, in the order of their keys, as they are at the first step.

        `start`: from this key on.
        """
        options = self._read_options()
        # What is read once and in order would push out of the cache what is read again and again.
        options.set_readahead_size(256 << 10)
        after = _after(prefix)
        if after is not None:
            options.set_iterate_upper_bound(after)
        found: tuple[bytes, bytes]
        for found in self._db.items(from_key=max(prefix, start or b""), read_opt=options):  # type: ignore[assignment]
            if not found[0].startswith(prefix):
                return
            yield found

    def view(self) -> View:
        """The records as they are now, to be read by another thread while this one writes on."""
        return View(self._db.snapshot())

    def count(self) -> int:
        """About how many records there are."""
        return self._db.property_int_value("rocksdb.estimate-num-keys") or 0

    def close(self) -> None:
        """Leave the files; nobody reads them any more, though."""
        self._db.close()

    def destroy(self) -> None:
        """Close, and delete the folder."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    def _failed(self, what: str, error: Exception) -> RocksError:
        return RocksError(f"{self.path}: the local database cannot be {what}: {error}")


class View:
    """The records of a database at one moment. It holds on to what is deleted meanwhile: let go of it soon."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes = self._snapshot[key]
            return value
        except Exception as error:  # rocksdict raises bare ones, and this for a key that is not there
            if str(error) == "key not found":
                return None
            raise RocksError(f"the local database cannot be read: {error}") from error

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The records whose key begins with `prefix`, in the order of their keys."""
        found: tuple[bytes, bytes]
        for found in self._snapshot.items(from_key=prefix):  # type: ignore[assignment]
            if not found[0].startswith(prefix):
                return
            yield found


def _wipe(path: Path) -> None:
    """Delete a database, and nothing else that somebody may have in a folder that was named by mistake."""
    if not path.exists():
        return
    for file in path.iterdir():
        if not file.name.startswith(_FILES) and file.suffix not in (".sst", ".log", ".dbtmp"):
            raise RocksError(f"{path}: holds files of others ({file.name}); name a folder that is empty or new")
    shutil.rmtree(path)


def _options(cache_bytes: int, write_buffer_bytes: int) -> Options:
    import rocksdict

    cache = rocksdict.Cache(cache_bytes)
    blocks = rocksdict.BlockBasedOptions()
    blocks.set_block_cache(cache)
    blocks.set_block_size(_BLOCK_BYTES)
    blocks.set_bloom_filter(_BLOOM_BITS, False)
    # Indexes and filters grow with the state: held in the cache, they are within its bound.
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    blocks.set_data_block_index_type(rocksdict.DataBlockIndexType.binary_and_hash())
    blocks.set_format_version(5)
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(write_buffer_bytes)
    options.set_max_write_buffer_number(2)
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(0.05)
    options.set_max_background_jobs(_BACKGROUND_JOBS)
    options.set_compression_type(rocksdict.DBCompressionType.lz4())
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_max_bytes_for_level_base(4 * write_buffer_bytes)
    options.set_target_file_size_base(write_buffer_bytes)
    options.set_max_open_files(256)
    options.set_keep_log_file_num(1)
    options.set_max_log_file_size(1 << 20)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def _after(prefix: bytes) -> bytes | None:
    """The smallest key behind all that begin with `prefix`; None where there is none."""
    bare = prefix.rstrip(b"\xff")
    return bare[:-1] + bytes([bare[-1] + 1]) if bare else None


open = Rocks  # noqa: A001 - rocks.open(path, cache_bytes, write_buffer_bytes)
