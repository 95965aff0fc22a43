"""Check that a wheel holds every file of the rooms that git knows: `python .ci/check_wheel.py WHEEL`."""

import subprocess
import sys
import zipfile

ROOMS = ("envs", "policies", "trainers", "configs")


def check_wheel(wheel: str) -> None:
    """Raise where a file is missing: a module, a configuration, a part of the server's page."""
    tracked = subprocess.run(["git", "ls-files", *ROOMS], capture_output=True, text=True, check=True).stdout.split()
    with zipfile.ZipFile(wheel) as archive:
        missing = set(tracked) - set(archive.namelist())
    assert not missing, f"{wheel} lacks {sorted(missing)}"


if __name__ == "__main__":
    check_wheel(sys.argv[1])
