"""The command line: `grasp-agent demo | collect | train | evaluate | video | plan | bench`."""

from grasp_agent.cli.app import COMMANDS, main

__all__ = ["COMMANDS", "main"]
