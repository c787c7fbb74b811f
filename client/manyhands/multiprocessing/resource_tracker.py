"""`multiprocessing.resource_tracker` itself, for programs that reach for it: manyhands does without it."""

import multiprocessing.resource_tracker
import sys

sys.modules[__name__] = multiprocessing.resource_tracker
