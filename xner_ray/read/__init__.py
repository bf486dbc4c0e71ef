"""Reading: files of any format -> an index of units, and a unit -> its rows.

find, sniff/                 the files that an input means, and their formats
formats/ > records           raw records of a file, and the records made of them
word_lines/, shapes/, table/ files with a word a line, objects, tables in text: the evidence of how they are written
index/                       the scan of all files, kept for every resume; units: ranges of rows
sources, tagged, columns > rows   a unit's table
"""
