"""Prints memory, ours beside the reference's, of all rows with gradients in JSON files of `sgxl-t bench`.

    python benchmarks/memory_rows.py FOLDER

Saved: kept from the forward to the backward pass, weights left out. Peak: above what was there before.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Rows with gradients of all files, each once."""
    found = {}
    for file in sorted(folder.glob("*.json")):
        rows = json.loads(file.read_text())
        for row in rows if isinstance(rows, list) else []:
            if row.get("mode") == "forward_backward":
                key = (row["name"], row["batch"], row["dtype"], row["variant"])
                found[key] = row
    return list(found.values())


def line(row: dict[str, Any]) -> str:
    """One row under the header."""
    pairs = [(row[name], row[f"reference_{name}"]) for name in ("saved_mib", "peak_mib")]
    cells = [f"{theirs:9.1f} {ours:9.1f} {theirs / ours if ours else 0:6.1f}" for ours, theirs in pairs]
    return f"{row['name']:34} {row['batch']:5} {row['dtype']:8} {row['variant']:17} {' '.join(cells)}"


def main() -> None:
    """Reads and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    columns = f"{'plain MiB':>9} {'ours MiB':>9} {'ratio':>6}"
    print(f"{'':67} {'saved':>26} {'peak':>26}")
    print(f"{'name':34} {'batch':>5} {'dtype':8} {'variant':17} {columns} {columns}")
    for row in rows_of(folder):
        print(line(row))


if __name__ == "__main__":
    main()
