"""The recipe: its sections, its checks, its file, and what of it decides the rows."""
