"""`multiprocessing.forkserver` itself, for programs that reach for it: manyhands does without it."""

import multiprocessing.forkserver
import sys

sys.modules[__name__] = multiprocessing.forkserver
