"""Files of tests run side by side, one on each core (pytest-xdist); `-n 0` runs them one after another."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # torch in several processes, each on all cores, would wait for itself
    os.environ.setdefault("OMP_NUM_THREADS", "1")
