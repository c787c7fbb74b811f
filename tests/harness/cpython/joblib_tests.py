"""joblib's own tests of its backends, of the backend `manyhands`.

`python -m harness.cpython.joblib_tests` runs them on a cluster of its own. joblib brings them along.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

#: Those that ask for what is not there, and why.
EXEMPT = {
    "test_auto_memmap_on_arrays_from_generator": "large arrays go by reference, not as files",
    "test_error_capture": "it looks at a private attribute of joblib's own backends",
    "test_memmapping_leaks": "large arrays go by reference, not as files",
    "test_nested_backend_in_sequential": "without n_jobs a call takes all slots, not one",
}
_OWN = 'PROCESS_BACKENDS = ["multiprocessing", "loky"]'


def main() -> int:
    """Run the tests; return pytest's exit code."""
    spec = importlib.util.find_spec("joblib.test.test_parallel")
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).read_text(encoding="utf-8")
    assert _OWN in text, "another version of joblib names its backends elsewhere"
    text = text.replace(_OWN, 'PROCESS_BACKENDS = ["manyhands"]')
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_backend.py").write_text(f"import manyhands.joblib\n{text}")
        # Some of them are scripts of their own.
        (Path(folder) / "sitecustomize.py").write_text("import manyhands.joblib\n")
        chosen = f"manyhands and not ({' or '.join(EXEMPT)})"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
        return subprocess.run(
            [*command, "--timeout", "120", "-k", chosen, "test_backend.py"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folder},
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
