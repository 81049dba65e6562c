"""World models of a few rigid things that move over a still background, learnt from pixels and actions alone.

- colours.py: what differs from the background, in a few colour channels
- encoder.py: where each thing is and how it is turned, from that picture
- decoder.py: the picture again, from learned sprites that are moved and turned
- refinement.py: poses to a fraction of a pixel, by making that drawing equal the picture
- turning.py: vectors turned in the plane
- dynamics.py: how the things move each other
- context.py: what plan proposals are conditioned on
"""

from grasp_agent.models.sprites.config import Sprite, SpritesConfig
from grasp_agent.models.sprites.model import SpritesModel

__all__ = ["Sprite", "SpritesConfig", "SpritesModel"]
