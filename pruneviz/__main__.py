"""`python -m pruneviz`: the same as the `pruneviz` command."""

from pruneviz.cli import main

main()
