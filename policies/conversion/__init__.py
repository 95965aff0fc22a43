"""Policies made of checkpoints that others trained."""
