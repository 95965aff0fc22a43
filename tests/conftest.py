"""Files of tests run side by side, one on each core (pytest-xdist); `-n 0` runs them one after another.

They see no GPU unless `SOUNDFLOW_TEST_GPU=1` is set.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # torch in several processes, each on all cores, would wait for itself
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if "SOUNDFLOW_TEST_GPU" not in os.environ:  # the same numbers on every machine; tests/test_gpu.py is for a GPU
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
else:  # as learning has it, before anything else has used cuBLAS
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
