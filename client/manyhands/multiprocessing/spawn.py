"""`multiprocessing.spawn` itself, for programs that reach for it: manyhands does without it."""

import multiprocessing.spawn
import sys

sys.modules[__name__] = multiprocessing.spawn
