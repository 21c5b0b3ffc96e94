"""Barriers and waits that some kernels would do without, and why they are there."""

import re

# Kernels' names, places (ptx_text.py, Kernel.place), the reason.
REDUNDANT = (
    (
        r"^(forward|queries|keys)_kernel<float, ",
        r"store_rows: __syncwarp\(\); \[1\]",
        "before rows of f32 are stored: each lane has read just what it overwrites; in bf16 it has not",
    ),
    (
        r"^forward_kernel<Bf16, \w+, (16|32|64|128)>",
        r"store_rows: __syncwarp\(\); \[1\]",
        "before rows are stored: queries are in registers, and no lane has read their tile since a barrier; heads of 256 need it",
    ),
    (
        r"^keys_kernel<Bf16, \w+, (16|32|64|128)>",
        r"store_rows: __syncwarp\(\); \[1\]",
        "before the second of two tiles is stored: the first's barriers lie between; the first needs it",
    ),
    (
        r"^queries_kernel<Bf16, ElasticSoftmax, ",
        r"store_rows: __syncwarp\(\); \[1\]",
        "before rows are stored: the shares of what is learned end with a barrier; functions that learn nothing need it",
    ),
    (
        r"^norm_backward_kernel<\w+, Team<(8|16|32), ",
        r"write_columns: __syncthreads",
        "between teams that add up in turn: there is one team; kernels with several need it",
    ),
    (
        r"^(rows|total|mean|mix_backward|norm_forward|norm_backward)_kernel",
        r"team_sums: __syncthreads\(\);  // the last call's parts",
        "before a first sum, or after a barrier of the kernel's own: sums that follow each other need it",
    ),
    (
        r"^balance_kernel",
        r"balance_kernel: __syncthreads\(\); \[2\]",
        "before the next sequence's slopes: its first sum lies between, and has barriers",
    ),
)


def reason(kernel, place):
    return next((why for kernels, places, why in REDUNDANT if re.search(kernels, kernel) and re.search(places, place)), None)
