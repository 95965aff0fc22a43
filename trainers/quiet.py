"""Libraries that would talk to the user of the command line are told not to."""

import os
import warnings


def quiet_libraries() -> None:
    """Silence notices that a user can do nothing about; for commands that need the libraries anyway."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for category in (FutureWarning, DeprecationWarning, UserWarning):
        warnings.simplefilter("ignore", category)
    from transformers.utils import logging  # noqa: PLC0415 - heavy

    logging.set_verbosity_error()
    logging.disable_progress_bar()  # of reading and writing weights, which take no time
