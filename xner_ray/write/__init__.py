"""Writing: emitted rows -> files that other tools import. One file a format, each `write(rows)`: rows in, text out.

Rows come as an iterator and leave as one, so that a file of any size costs the memory of some rows; a spaCy file is
made whole, so there are several of bounded size.

format        counts offsets in      because the tool does
conll         -                      a line a word
jsonl         code points            `read` does
label_studio  code points            its editor turns the browser's UTF-16 code units into them
doccano       UTF-16 code units      its editor does, unless the project counts grapheme clusters
prodigy       code points            spaCy does
spacy         tokens                 a Doc's text is in code points
"""
