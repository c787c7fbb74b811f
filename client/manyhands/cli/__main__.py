"""`python -m manyhands.cli` is the `manyhands` command."""

from manyhands.cli import main

main()
