"""A world model and a planner as a closed-loop Gymnasium agent."""

from grasp_agent.agent.agent import GRASPAgent, MPCAgent
from grasp_agent.agent.state import AgentState, Diagnostics

__all__ = ["AgentState", "Diagnostics", "GRASPAgent", "MPCAgent"]
