"""What flows: the row, words, spans, links, language codes."""
