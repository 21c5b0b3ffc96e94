"""Barriers and waits that some kernels would do without, and why they are there."""

import re

# Kernels' names, places (ptx_text.py, Kernel.place), the reason.
REDUNDANT = ()


def reason(kernel, place):
    return next((why for kernels, places, why in REDUNDANT if re.search(kernels, kernel) and re.search(places, place)), None)
