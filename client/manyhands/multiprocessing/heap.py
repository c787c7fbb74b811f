"""`multiprocessing.heap` itself."""

import multiprocessing.heap
import sys

sys.modules[__name__] = multiprocessing.heap
