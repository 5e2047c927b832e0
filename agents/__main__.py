"""`python -m agents` and the `trillium` command."""

from agents.cli.app import main

if __name__ == "__main__":
    main()
