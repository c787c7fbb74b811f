"""The cases of `cpython_suite`, for `python -m unittest harness.cpython_tests.NAME`."""

from __future__ import annotations

from harness import cpython_suite

cpython_suite.install_tests_in_module_dict(globals(), "spawn")  # type: ignore[attr-defined]
