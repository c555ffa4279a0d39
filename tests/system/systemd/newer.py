"""The tests of the service on a newer systemd: `python tests/system/systemd/newer.py [SUITE]`, as root.

Makes the root directory of a small Debian (by default 13, trixie: systemd 257) with `mmdebstrap` and runs the tests
over it instead of over this machine's own root. Not part of the usual tests: it fetches a system from Debian's
mirror, on which CI should not depend, and takes two minutes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Make the root, run the tests, remove it; the status is pytest's."""
    suite = sys.argv[1] if len(sys.argv) > 1 else "trixie"
    if shutil.which("mmdebstrap") is None:
        print("needs mmdebstrap: apt-get install mmdebstrap", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="balancer-root-") as folder:
        root = Path(folder, "root")
        made = ["mmdebstrap", "--quiet", "--variant=essential", "--include=systemd,dbus,curl,python3-venv"]
        subprocess.run([*made, suite, str(root)], check=True)
        environ = {**os.environ, "BALANCER_TEST_ROOT": str(root), "CI": "true"}
        argv = [sys.executable, "-m", "pytest", str(HERE)]
        return subprocess.run(argv, check=False, cwd=HERE.parents[2], env=environ).returncode


if __name__ == "__main__":
    sys.exit(main())
