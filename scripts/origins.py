"""Origins of a page: digests in the page's metadata, by which a stale page is recognised.

A page depends on its notebook, the parameters, the code (library and runner), the locked environment, and the
runs and published results that it reads, which the library writes to the file that SPARSITY_READS names.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sparsity_lib.study.files import digest

ROOT = Path(__file__).resolve().parent.parent
KEY, OWN = "made_from", "page"  # the latter is the digest of the page itself
DAMAGED = "the page is damaged"
REASONS = {
    "notebook": "the notebook changed",
    "parameters": "other parameters",
    "code": "the code changed",
    "environment": "the locked environment changed",
    "read": "a run or published results that it reads changed",
}


def surroundings() -> dict[str, str]:
    """Digests of what every page depends on."""
    code = [*(ROOT / "sparsity_lib").rglob("*"), *(ROOT / "scripts").glob("*.py")]
    return {
        "code": combined(digests(path for path in code if "__pycache__" not in path.parts)),
        "environment": combined(digests([ROOT / "requirements.lock"])),
    }


def origin(source: Path, values: dict[str, Any], around: dict[str, str]) -> dict[str, Any]:
    """The record for a page made from the notebook `source` with the parameters `values`."""
    return {"notebook": next(iter(digests([source]).values()))[:16], "parameters": values, **around}


def staleness(page: Path, now: dict[str, Any]) -> str | None:
    """Reason for which the page is out of date; None if it is not."""
    if not page.exists():
        return "no page yet"
    if is_damaged(page):
        return DAMAGED
    then = json.loads(page.read_text(encoding="utf-8"))["metadata"][KEY]
    now = now | {"read": read(then["read"])}
    return next((why for part, why in REASONS.items() if then.get(part) != now[part]), None)


def read(paths: Iterable[str]) -> dict[str, str]:
    """Digest of each file by its path from the project's root; empty for one that is not there."""
    absolute = sorted({ROOT / path for path in paths})
    found = digests(absolute)
    return {name: found.get(name, "") for name in map(_name, absolute)}


def is_damaged(page: Path) -> bool:
    """Whether the page differs from its own digest."""
    try:
        content = json.loads(page.read_text(encoding="utf-8"))
        return content["metadata"][KEY][OWN] != own_digest(content)
    except (ValueError, KeyError, TypeError):
        return True


def own_digest(content: dict[str, Any]) -> str:
    """SHA-256 of a notebook's JSON without this digest."""
    metadata = content["metadata"]
    made_from = {name: value for name, value in metadata[KEY].items() if name != OWN}
    bare = content | {"metadata": metadata | {KEY: made_from}}
    return hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of each file, by its path from the project's root, in order of path."""
    return {_name(path): digest(path) for path in sorted(paths) if path.is_file()}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def combined(parts: dict[str, str]) -> str:
    """One short digest of many."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
