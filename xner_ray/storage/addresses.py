"""Addresses of files: a local path, or a URI that may have options behind `?`."""

import posixpath


def split(address: str) -> tuple[str, str, str]:
    """Split an address into its place, `?` if it has options, and the options; a local path has none."""
    return address.partition("?") if "://" in address else (address, "", "")


def bare(address: str) -> str:
    """Return a path, or an address without its options.

    >>> bare("s3://b/a.conll?region=eu"), bare("a?b")
    ('s3://b/a.conll', 'a?b')
    """
    return split(address)[0]


def parent(address: str) -> str:
    """Return the address of the folder that an object lies in.

    >>> parent("s3://b/recipes/a.yaml?region=eu")
    's3://b/recipes?region=eu'
    """
    whole, mark, options = split(address)
    return whole.rpartition("/")[0] + mark + options


def beside(folder: str, path: str) -> str:
    """Return the address of a relative path, which may go up, seen from the folder of an address.

    >>> beside("s3://b/recipes?region=eu", "../a.conll")
    's3://b/a.conll?region=eu'
    """
    whole, mark, options = split(folder)
    scheme, _, inner = whole.partition("://")
    return f"{scheme}://{posixpath.normpath(posixpath.join(inner, path))}{mark}{options}"
