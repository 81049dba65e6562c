"""A world model and a planner as a closed-loop Gymnasium agent."""

from grasp_agent.agent.agent import DEFAULT_LOOK_AHEAD, GRASPAgent, MPCAgent
from grasp_agent.agent.state import AgentState, Diagnostics

__all__ = ["DEFAULT_LOOK_AHEAD", "AgentState", "Diagnostics", "GRASPAgent", "MPCAgent"]
