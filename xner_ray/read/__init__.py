"""Reading: files of any format -> an index of units, and a unit -> its rows.

find                    the files that an input means
text_formats, table_formats > formats   the records of a file, which `record` describes
inputs, scan, duplicates > index        the scan of all files, kept for every resume; units: ranges of rows
rows, columns           a unit's table
"""
