"""A reactive policy from a planner: imitation of its decisions where the policy itself goes.

This room stands above planning and evaluation, since what it learns from is a planner at work.
"""
