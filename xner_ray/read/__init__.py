"""Reading: files of any format -> an index of units, and a unit -> its rows.

find                     the files that an input means
format, formats/ > records   raw records of a file, the evidence of how it is written, and the records made of them
inputs, scan, duplicates > index   the scan of all files, kept for every resume; units: ranges of rows
rows, columns            a unit's table
"""
