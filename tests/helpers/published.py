"""What a run publishes, for tests that compare runs byte for byte."""

import hashlib
import json
from pathlib import Path


def digests(run: Path) -> dict[str, str]:
    """SHA-256 of everything that a run publishes, but for the report, which has times."""
    files = [*run.glob("data/**/*"), *run.glob("rejects/**/*"), run / "README.md"]
    return {str(f.relative_to(run)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()}


def seal_as_it_is(run: Path) -> None:
    """Make SEALED, in the form of earlier versions, say what the published files are by now."""
    path = run / "_run/SEALED"
    entries = json.loads(path.read_text())["files"]
    for entry in entries:
        data = (run / entry["file"]).read_bytes()
        entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    path.write_text(json.dumps({"files": entries}))
