"""`multiprocessing.resource_tracker` itself, of which manyhands has nothing of its own."""

import multiprocessing.resource_tracker
import sys

sys.modules[__name__] = multiprocessing.resource_tracker
