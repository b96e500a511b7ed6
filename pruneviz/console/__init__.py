"""What the person at the terminal sees: the look of commands, their exit codes, and progress."""
