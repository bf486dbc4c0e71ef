"""The index of an input: its files scanned, how they are read found out, and its rows cut into units."""
