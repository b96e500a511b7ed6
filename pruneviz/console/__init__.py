"""The terminal interface: appearance of commands, exit codes and progress."""
