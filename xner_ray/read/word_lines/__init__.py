"""Files with a word a line: their cells, where sentences end, and the evidence of how they are written."""
