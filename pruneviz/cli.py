"""The `pruneviz` command."""


def main() -> None:
    """Run the command line."""
