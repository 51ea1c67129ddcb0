"""Stands in for PythonSlicer: a launcher that starts the real Python with the same streams and waits for it."""

import subprocess
import sys

if __name__ == "__main__":
    code = subprocess.run([sys.executable, *sys.argv[1:]], check=False).returncode
    sys.exit(128 - code if code < 0 else code)  # a signal is told as shells do
