"""`python -m manyhands` is the `manyhands` command."""

from manyhands.cli import main

if __name__ == "__main__":
    main()
