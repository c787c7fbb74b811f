"""`multiprocessing.resource_tracker` itself."""

import multiprocessing.resource_tracker
import sys

sys.modules[__name__] = multiprocessing.resource_tracker
