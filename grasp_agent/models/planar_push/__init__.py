"""All that is known of a pusher and a body in the plane: their poses as latents, and networks made for them."""

from grasp_agent.models.planar_push.layout import CENTRE, PLANAR_PUSH, RADIUS, UNIT, PlanarPush

__all__ = ["CENTRE", "PLANAR_PUSH", "RADIUS", "UNIT", "PlanarPush"]
