"""Another process that holds a lock."""

import contextlib
import subprocess
import sys

from random_bases import locks

# Without the package's __init__, which imports TensorFlow.
PROGRAM = f"""
import sys, time, types
sys.modules["random_bases"] = package = types.ModuleType("random_bases")
package.__path__ = [{locks.__file__.rpartition("/")[0]!r}]
from random_bases import locks
lock = locks.take(sys.argv[1])
print("taken", flush=True)
time.sleep(float(sys.argv[2]))
"""


@contextlib.contextmanager
def holding(what, seconds=60.0):
    """A process that has taken a lock, and holds it for so long if it is not killed."""
    command = [sys.executable, "-c", PROGRAM, str(what), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"taken\n"
            yield process
        finally:
            process.kill()
