"""What a run publishes, for tests that compare runs byte for byte."""

import hashlib
from pathlib import Path


def digests(run: Path) -> dict[str, str]:
    """SHA-256 of everything that a run publishes, but for the report, which has times."""
    files = [*run.glob("data/**/*"), *run.glob("rejects/**/*"), run / "README.md"]
    return {str(f.relative_to(run)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()}
