"""`multiprocessing.connection` itself: connections, listeners and `wait` are the standard ones."""

import multiprocessing.connection
import sys

sys.modules[__name__] = multiprocessing.connection
