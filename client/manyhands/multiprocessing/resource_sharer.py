"""`multiprocessing.resource_sharer` itself, of which manyhands has nothing of its own."""

import multiprocessing.resource_sharer
import sys

sys.modules[__name__] = multiprocessing.resource_sharer
