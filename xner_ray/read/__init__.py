"""Reading: files of any format -> an index of units, and a unit -> its rows.

records   what every format yields        lines, tables   the formats
formats   which files an input means      inputs, scan    what one scan finds out
units     ranges of rows and their places index           the scan of everything, kept for every resume
rows      a unit's table
"""
