"""The listener: token layout, features, the LALM, the streaming engine, and baselines. No optimisers here."""
