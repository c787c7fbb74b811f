"""`multiprocessing.forkserver` itself."""

import multiprocessing.forkserver
import sys

sys.modules[__name__] = multiprocessing.forkserver
