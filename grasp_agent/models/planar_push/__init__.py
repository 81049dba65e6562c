"""All that is known of a pusher and a body in the plane: their poses as latents, and networks made for them."""

from grasp_agent.models.planar_push.layout import PLANAR_PUSH, PlanarPush
from grasp_agent.models.planar_push.poses import (
    CENTRE,
    PUSHER_WEIGHT,
    RADIUS,
    UNIT,
    latents_of_states,
    pose_errors,
    reaches,
)

__all__ = [
    "CENTRE",
    "PLANAR_PUSH",
    "PUSHER_WEIGHT",
    "RADIUS",
    "UNIT",
    "PlanarPush",
    "latents_of_states",
    "pose_errors",
    "reaches",
]
