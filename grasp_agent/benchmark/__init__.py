"""The GRASP paper's table 1 for every planner: `stages` runs it, `report` writes what people read."""
