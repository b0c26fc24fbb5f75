"""`python -m preread` is the command line; the supervisor starts its services this way."""

from preread.cli import main

if __name__ == "__main__":
    main()
