"""`multiprocessing.heap` itself, of which manyhands has nothing of its own."""

import multiprocessing.heap
import sys

sys.modules[__name__] = multiprocessing.heap
