"""Addresses of files: a local path, or a URI that may have options behind `?`."""


def split(address: str) -> tuple[str, str, str]:
    """Split an address into its place, `?` if it has options, and the options; a local path has none."""
    return address.partition("?") if "://" in address else (address, "", "")


def bare(address: str) -> str:
    """Return a path, or an address without its options.

    >>> bare("s3://b/a.conll?region=eu"), bare("a?b")
    ('s3://b/a.conll', 'a?b')
    """
    return split(address)[0]
