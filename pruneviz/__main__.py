"""The `pruneviz` command, and `python -m pruneviz`."""

from pruneviz.console.stop_signals import end_at_once, ignore_stops, leave_if_stopped


def main() -> None:
    """Run the command line, in a process of its own: stop signals leave no stack trace."""
    end_at_once()  # until a command has begun
    from pruneviz.cli import main as command

    try:
        command()
    except SystemExit as ended:
        ignore_stops()
        leave_if_stopped(ended.code)
        raise


if __name__ == "__main__":
    main()
