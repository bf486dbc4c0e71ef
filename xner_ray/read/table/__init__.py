"""Tables in text files: their cells, and which column holds what."""
