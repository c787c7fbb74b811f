"""`multiprocessing.heap` itself, for programs that reach for it: manyhands does without it."""

import multiprocessing.heap
import sys

sys.modules[__name__] = multiprocessing.heap
