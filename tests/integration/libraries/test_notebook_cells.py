"""A cell of a notebook that is interrupted takes its tasks along. IPython's own shell runs the cells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CELLS = '''
import concurrent.futures as cf
import signal

from IPython.core.interactiveshell import InteractiveShell

FIRST = """
import signal
import manyhands

def forever(_=None):
    import threading
    threading.Event().wait()

executor = manyhands.Executor(6)
pool = manyhands.Pool(2, address=executor.address)
before = executor.submit(forever)
"""
INTERRUPTED = """
futures = [executor.submit(forever) for _ in range(20)]
mapped = pool.map_async(forever, range(20))
signal.raise_signal(signal.SIGINT)
"""
FAILED = """
after = executor.submit(forever)
1 / 0
"""
shell = InteractiveShell.instance()
assert shell.run_cell(FIRST).success
assert isinstance(shell.run_cell(INTERRUPTED).error_in_exec, KeyboardInterrupt)
names = shell.user_ns
assert not cf.wait(names["futures"], 60).not_done
assert all(future.cancelled() for future in names["futures"])
names["mapped"].wait(60)
assert names["mapped"].ready()
assert not names["mapped"].successful()
assert isinstance(shell.run_cell(FAILED).error_in_exec, ZeroDivisionError)
assert names["executor"].submit(abs, -1).result(60) == 1
assert not names["before"].done()
assert not names["after"].done()
names["pool"].terminate()
names["executor"].shutdown(cancel_futures=True)
print("as it should be")
'''


def test_an_interrupted_cell_cancels_what_it_has_submitted(tmp_path: Path) -> None:
    script = tmp_path / "cells.py"
    script.write_text(f"if __name__ == '__main__':\n    exec({CELLS!r}, globals())\n")
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.endswith("as it should be\n"), done.stdout + done.stderr
