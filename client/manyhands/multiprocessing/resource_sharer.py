"""`multiprocessing.resource_sharer` itself, for programs that reach for it: manyhands does without it."""

import multiprocessing.resource_sharer
import sys

sys.modules[__name__] = multiprocessing.resource_sharer
