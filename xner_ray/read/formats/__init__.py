"""Formats of files, one a file: how raw records are told from one another, and what a record is made of."""
