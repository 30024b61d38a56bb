"""Part of a lease: where the time of a captured frame goes, kernel by kernel.

    python3 -m bench.lease.kernel_profile --forms plain,fused --batches 1,64

The profile is that of `bench.kernel_profile`. Each form and batch is written as soon as it is measured.
"""

from __future__ import annotations

import torch

from bench.kernel_profile import print_table, profile
from bench.lease.forms import FORMS, form_names, release_memory
from bench.lease.options import DTYPES, numbers, opened, parser


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--forms",
        type=form_names,
        default=["plain", "depth-kernel", "float8-depth-kernel", "fused", "float8"],
        help=", ".join(FORMS),
    )
    options.add_argument("--batches", type=numbers, default=[1, 64])
    options.add_argument("--context", type=int, default=512)
    arguments = options.parse_args()
    figures = opened("kernel_profile", arguments)
    with torch.inference_mode():
        for form in arguments.forms:
            for batch in arguments.batches:
                release_memory(arguments.device)
                row = profile(
                    arguments.shape, form, batch, arguments.context, arguments.device, DTYPES[arguments.dtype]
                )
                print_table(row)
                figures.add(**row)


if __name__ == "__main__":
    main()
