"""`multiprocessing.resource_sharer` itself."""

import multiprocessing.resource_sharer
import sys

sys.modules[__name__] = multiprocessing.resource_sharer
