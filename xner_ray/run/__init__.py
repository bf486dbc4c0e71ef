"""The run folder: its parts, its counters, and who owns it."""
