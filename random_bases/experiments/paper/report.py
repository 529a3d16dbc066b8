"""The page."""


def write(directory, workdir):
    """Placeholder."""
