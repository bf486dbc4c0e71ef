"""The package from Python: a projector in memory, runs as objects, and what a notebook shows of both."""
