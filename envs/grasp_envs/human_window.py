"""A window for `render_mode="human"`; pygame is an extra and is imported only here."""

from __future__ import annotations

import os
import warnings

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray


class HumanWindow:
    """Shows uint8 images [height, width, 3] at a steady rate.

    Args:
        title: the window's caption.
        fps: frames per second to hold.

    Raises:
        DependencyNotInstalled: pygame is missing.
        RuntimeError: there is no screen to open a window on.
    """

    def __init__(self, title: str, fps: int) -> None:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            with warnings.catch_warnings():
                # pygame imports setuptools' deprecated pkg_resources where it finds it.
                warnings.simplefilter("ignore")
                import pygame
        except ImportError as error:
            raise DependencyNotInstalled(
                'render_mode="human" expected pygame to be installed, but it is not: '
                'try `pip install "grasp-agent[human]"`.'
            ) from error
        self._pygame = pygame
        self._title, self._fps = title, fps
        self._screen: pygame.Surface | None = None
        self._clock = pygame.time.Clock()

    def show(self, image: NDArray[np.uint8]) -> None:
        """Display one frame, waiting as long as the frame rate asks for."""
        pygame = self._pygame
        size = (image.shape[1], image.shape[0])
        if self._screen is None or self._screen.get_size() != size:
            try:
                pygame.display.init()
                self._screen = pygame.display.set_mode(size)
            except pygame.error as error:
                raise RuntimeError(
                    f'render_mode="human" expected a screen, got "{error}": try render_mode="rgb_array".'
                ) from error
            pygame.display.set_caption(self._title)
        pygame.surfarray.blit_array(self._screen, image.transpose(1, 0, 2))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Close the window; showing a frame opens it again."""
        if self._screen is not None:
            self._pygame.display.quit()
            self._screen = None
