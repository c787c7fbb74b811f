"""`multiprocessing.dummy` itself: its processes are threads of this one."""

import multiprocessing.dummy
import sys

sys.modules[__name__] = multiprocessing.dummy
