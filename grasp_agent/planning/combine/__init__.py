"""What composes solvers into planners: restarts, alternation, other endings, and the choice among plans."""
