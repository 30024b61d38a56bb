"""`python -m csm_client` is the `csm` program."""

import sys

from csm_client.command.cli import main

if __name__ == "__main__":
    sys.exit(main())
