"""Which of CPython's own tests of `multiprocessing` ask for what is not there, and why.

A name is that of a class of `tests`, or that of a method of it.
"""

from __future__ import annotations

#: Everywhere.
EXEMPT = {
    "TestFlags.test_flags": "it runs Python without its installed packages",
    "TestPoolNotLeakOnFailure.test_release_unused_processes": "it replaces a pool's processes",
    "TestResourceTracker.test_resource_tracker": "host agents give memory back, no tracker",
    "TestResourceTracker.test_resource_tracker_sigkill": "semaphores are nothing of the tracker's",
    "TestStartMethod.test_mixed_startmethod": "a lock of any context travels to any process",
    "WithProcessesTestPoolWorkerErrors.test_unpickleable_result": (
        "its result, a lambda, is pickled by value; what cannot be is a MaybeEncodingError too"
    ),
    "WithProcessesTestPoolWorkerLifetime.test_pool_worker_lifetime": "it calls a private method",
    "WithProcessesTestSharedMemory.test_shared_memory_cleaned_after_process_termination": (
        "host agents give memory back, no tracker that warns of it"
    ),
    **dict.fromkeys(
        (
            "WithProcessesTestSharedMemory.test_shared_memory_tracking",
            "WithProcessesTestSharedMemory.test_shared_memory_untracking",
        ),
        "names belong to a program, and another one opens it; no tracker",
    ),
    "_TestImportStar.test_import": "it lists the standard package's own files",
}
#: Where processes are on other hosts besides.
EXEMPT_APART = {
    "WithProcessesTestConnection.test_fd_transfer": "a descriptor stays on its host",
    "WithProcessesTestConnection.test_large_fd_transfer": "a descriptor stays on its host",
    "WithProcessesTestPicklingConnections.test_pickling": "a socket that is no connection stays too",
    "WithProcessesTestPoll.test_boundaries": "bytes go to the host of a reader before it reads them",
}
