"""`multiprocessing.spawn` itself."""

import multiprocessing.spawn
import sys

sys.modules[__name__] = multiprocessing.spawn
