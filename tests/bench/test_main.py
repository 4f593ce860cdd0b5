"""What all benches owe to where they run."""
import os
import subprocess
import sys

from tests.docs.pages import HOME


def test_a_reader_that_has_gone_is_no_error():
    """Catches `python -m bench ... | head -1` that ends in a traceback."""
    read, write = os.pipe()
    os.close(read)
    program = (
        "import runpy, sys, bench.world as world; world.main = lambda a: print('text', flush=True)\n"
        "sys.argv = ['', 'world']; runpy.run_module('bench', run_name='__main__')"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=HOME, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
