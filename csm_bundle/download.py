"""Downloads all parts of a bundle into the hub's cache, for stages that then run offline.

    python -m csm_bundle.download bundles/csm-1b --pinned

It loads no weights. A part whose commit is already in the cache is not downloaded again.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from csm_bundle.bundle import Bundle, open_bundle
from csm_bundle.errors import BundleError
from csm_bundle.hub import HubReference

COMMIT = re.compile(r"[0-9a-f]{40}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. arguments: None is the command line."""
    parser = argparse.ArgumentParser(prog="python -m csm_bundle.download", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundle", help="a folder, or a Hugging Face repository OWNER/NAME[@REVISION]")
    parser.add_argument("--pinned", action="store_true", help="refuse a bundle with a part that names no commit")
    options = parser.parse_args(arguments)
    try:
        bundle = open_bundle(options.bundle)
        if options.pinned:
            check_pinned(bundle)
        for part in bundle.parts:
            print(f"{part}: {bundle.path(part)}", flush=True)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def check_pinned(bundle: Bundle) -> None:
    """Raises BundleError for a part of the hub without a commit: a branch or a tag may move."""
    for part, location in bundle.parts.items():
        match location:
            case Path():
                pass
            case HubReference(revision=str(revision)) if COMMIT.fullmatch(revision):
                pass
            case _:
                raise BundleError(
                    f'Part "{part}" of bundle {bundle.name} is {location}; a commit of 40 hexadecimal digits is needed,'
                    ' such as "hf:OWNER/REPO@<commit>".'
                )


if __name__ == "__main__":
    sys.exit(main())
