"""`multiprocessing.util` itself."""

import multiprocessing.util
import sys

sys.modules[__name__] = multiprocessing.util
