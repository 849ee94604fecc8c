"""Questions to the database, in SQL or by labels: a DuckDB catalogue over the entries.

The catalogue is made in memory from the entries at each question, so that it is never stale and
never locked by another process. SQL reads the database's own files and no others, and writes none.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa

from lydite.errors import ConfigurationError
from lydite.monitor.store.archive import Archive
from lydite.monitor.store.entry import Entry

COLUMNS = {
    "name": pa.string(),
    "device": pa.string(),
    "start_ns": pa.int64(),
    "duration_s": pa.float64(),
    "samples": pa.int64(),
    "mean_w": pa.float64(),
    "channels": pa.list_(pa.string()),
    "session": pa.string(),
    "workload": pa.string(),
    "family": pa.string(),
    "model": pa.string(),
    "labels": pa.map_(pa.string(), pa.string()),
    "source": pa.string(),
    "licence": pa.string(),
    "redistribute": pa.bool_(),
    "synthetic": pa.bool_(),
    "faults": pa.map_(pa.string(), pa.int64()),
}
"""Of the table ``traces``."""
MOST_ROWS = 100_000


class Catalogue:
    """The traces of an archive as the tables ``traces`` and ``samples``."""

    def __init__(self, archive: Archive) -> None:
        rows = [_row(name, entry) for name, entry in archive.entries()]
        columns = [pa.array([row[name] for row in rows], kind) for name, kind in COLUMNS.items()]
        self._connection = duckdb.connect(":memory:", config={"threads": "1"})
        entries = pa.table(columns, names=list(COLUMNS))
        self._connection.register("entries", entries)
        self._connection.execute("CREATE TABLE traces AS SELECT * FROM entries")
        self._connection.unregister("entries")
        self._guard(archive.directory / "samples", bool(rows))

    def __enter__(self) -> Self:
        """Answer questions until the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the files."""
        self._connection.close()

    def _guard(self, directory: Path, filled: bool) -> None:
        """Let SQL read the samples, and nothing else of the machine."""
        quoted = str(directory.resolve()).replace("'", "''")
        if filled:
            self._connection.execute(
                "CREATE VIEW samples AS SELECT parse_filename(filename, true) AS name, channel,"
                f" t_ns, value FROM read_parquet('{quoted}/*/*/*.parquet', filename = true)"
            )
        self._connection.execute(f"SET allowed_directories = ['{quoted}']")
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")

    def ask(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """Return the rows that a SELECT finds, at most ``MOST_ROWS``.

        Raises:
            ConfigurationError: it is no SELECT, or DuckDB cannot answer it.
        """
        try:
            statements = self._connection.extract_statements(sql)
            if [one.type for one in statements] != [duckdb.StatementType.SELECT]:
                raise ConfigurationError("a query is one SELECT")
            found = self._connection.execute(statements[0], list(values) or None)
            names = [column[0] for column in found.description or ()]
            rows = found.fetchmany(MOST_ROWS + 1)
        except duckdb.Error as error:
            raise ConfigurationError(f"query: {str(error).splitlines()[0]}") from error
        if len(rows) > MOST_ROWS:
            raise ConfigurationError(f"query: over {MOST_ROWS} rows; ask for fewer, or aggregate")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def matching(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the traces that carry all of ``labels``; device and licence count as labels."""
        conditions, values = ["true"], []
        for key, value in labels.items():
            plain = key in ("device", "licence", "source", "name")
            conditions.append(f"{key} = ?" if plain else "labels[?] = ?")
            values += [value] if plain else [key, value]
        where = " AND ".join(conditions)
        return self.ask(f"SELECT * FROM traces WHERE {where} ORDER BY session, name", *values)

    def stats(self, by: str = "workload") -> list[dict[str, Any]]:
        """Return how much there is by one label: traces, sessions, devices, hours, watts."""
        return self.ask(
            "SELECT coalesce(labels[?], '') AS label, count(*) AS traces,"
            " count(DISTINCT session) AS sessions, count(DISTINCT device) AS devices,"
            " sum(duration_s) / 3600 AS hours,"
            " sum(mean_w * duration_s) / nullif(sum(duration_s), 0) AS mean_w,"
            " count_if(redistribute) AS redistributable"
            " FROM traces GROUP BY label ORDER BY label",
            by,
        )

    def faults(self) -> dict[str, int]:
        """Return what intake mended, left out or noticed in all traces, by ``channel/fault``."""
        rows = self.ask(
            "SELECT key, sum(value)::BIGINT AS number FROM"
            " (SELECT unnest(map_entries(faults), recursive := true) FROM traces)"
            " GROUP BY key ORDER BY key"
        )
        return {row["key"]: row["number"] for row in rows}


def _row(name: str, entry: Entry) -> dict[str, Any]:
    """Return an entry as a row of ``traces``."""
    watts = [one.mean for one in entry.channels if one.channel.startswith("power_")]
    labels = entry.labels
    return {
        "name": name,
        "device": entry.device,
        "start_ns": entry.start_ns,
        "duration_s": entry.duration_s,
        "samples": sum(one.samples for one in entry.channels),
        "mean_w": watts[0] if watts else None,
        "channels": [one.channel for one in entry.channels],
        "session": labels["session"],
        **{key: labels.get(key) for key in ("workload", "family", "model")},
        "labels": list(labels.items()),
        "source": entry.origin.source,
        "licence": entry.origin.licence,
        "redistribute": entry.origin.redistribute,
        "synthetic": entry.origin.synthetic,
        "faults": list(entry.counted.items()),
    }
