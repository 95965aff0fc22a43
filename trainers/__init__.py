"""The learning: supervised stages, PPO, evaluation, reports and the command line."""
