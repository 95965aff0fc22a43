"""Hierarchical event curation (paper): plan a scene in words, refine it, and ground every sub-event in a clip."""

from envs.curation.scenarios import CuratedScenarios, curated_scenarios, planner_from_options

__all__ = ["CuratedScenarios", "curated_scenarios", "planner_from_options"]
