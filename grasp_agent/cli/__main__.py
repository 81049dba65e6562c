"""`python -m grasp_agent.cli`, the same as `grasp-agent`."""

from grasp_agent.cli.app import main

# Worker processes may import this module under another name.
if __name__ == "__main__":
    main()
