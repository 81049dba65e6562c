"""World models of a few rigid things that move over a still background, learnt from pixels and actions alone.

colours.py    what differs from the background, in a few colour channels
encoder.py    where each thing is and how it is turned, from that picture
decoder.py    the picture again: learned sprites, moved and turned
dynamics.py   how the things move each other
context.py    what plan proposals are conditioned on
"""

from grasp_agent.models.sprites.config import Sprite, SpritesConfig
from grasp_agent.models.sprites.model import SpritesModel

__all__ = ["Sprite", "SpritesConfig", "SpritesModel"]
