"""Shapes of objects: how lines of JSON and rows of tables hold text, words, tags and spans, whatever wrote them."""
