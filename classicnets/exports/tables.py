"""Rows as CSV and Parquet."""

import csv
import io
import json
from collections.abc import Sequence

# What a spreadsheet takes for a formula at the beginning of a cell.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def columns_of(rows: Sequence[dict]) -> list[str]:
    """Return every column of some row, in the order in which they appear."""
    return list(dict.fromkeys(column for row in rows for column in row))


def csv_bytes(rows: Sequence[dict], columns: Sequence[str]) -> bytes:
    """Return RFC 4180 text, a line a row; what a spreadsheet would take for a formula is led by an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_cell, columns))
    writer.writerows([[_cell(row.get(column)) for column in columns] for row in rows])
    return out.getvalue().encode(errors="backslashreplace")


def parquet_bytes(rows: Sequence[dict], columns: Sequence[str]) -> bytes:
    """Return a table whose columns are of booleans, integers, floats or words, or of JSON text where one mixes them."""
    import pyarrow
    from pyarrow import parquet

    arrays = {
        column.encode(errors="backslashreplace").decode(): pyarrow.array(_uniform([row.get(column) for row in rows]))
        for column in columns
    }
    out = io.BytesIO()
    parquet.write_table(pyarrow.table(arrays), out)
    return out.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    return json.dumps(value)


def _uniform(values: list) -> list:
    values = [v.encode(errors="backslashreplace").decode() if isinstance(v, str) else v for v in values]
    kinds = {type(value) for value in values if value is not None}
    if any(isinstance(value, int) and abs(value) >= 2**63 for value in values):
        kinds.add(object)
    if kinds <= {bool} or kinds <= {int} or kinds <= {str}:
        return values
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else json.dumps(value) for value in values]
