"""`python -m services.gateway.new_token NAME`: makes a token and prints it with its entry for the tokens file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from services.gateway.auth.tokens import digest_of, is_name, new_token

USAGE = "usage: python -m services.gateway.new_token NAME\n"


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) != 1 or not is_name(given[0]):
        sys.stderr.write(f"{USAGE}NAME of the caller: 1 to 64 letters, digits or . _ @ -\n")
        return 2
    token = new_token()
    sys.stderr.write("The token, for the caller; it is stored nowhere. Then its entry for --auth-tokens-file:\n")
    print(token)
    print(json.dumps({"name": given[0], "sha256": digest_of(token)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
