"""Reading: files of any format -> an index of units, and a unit -> its rows.

record   what every format yields         text_formats, table_formats   the formats
find     which files an input means       inputs, scan, duplicates      what one scan finds out
units    ranges of rows, their places     index                         the scan of everything, kept for every resume
rows, columns   a unit's table
"""
