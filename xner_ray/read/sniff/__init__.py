"""Formats told apart, by the names of files and by their content; and how their bytes are encoded."""
