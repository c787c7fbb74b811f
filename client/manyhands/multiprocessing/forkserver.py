"""`multiprocessing.forkserver` itself, of which manyhands has nothing of its own."""

import multiprocessing.forkserver
import sys

sys.modules[__name__] = multiprocessing.forkserver
