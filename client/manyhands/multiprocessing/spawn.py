"""`multiprocessing.spawn` itself, of which manyhands has nothing of its own."""

import multiprocessing.spawn
import sys

sys.modules[__name__] = multiprocessing.spawn
