"""Gymnasium environments of the project: importing this package registers them.

`gymnasium.make("grasp_envs:grasp_envs/PushT-v0")` works without the import.
"""

from gymnasium.envs.registration import register

register(
    id="grasp_envs/PushT-v0",
    entry_point="grasp_envs.pusht:PushTEnv",
    max_episode_steps=300,
)

# The same task as the package gym-pusht has it, which must be installed.
register(
    id="grasp_envs/GymPushT-v0",
    entry_point="grasp_envs.gym_pusht:GymPushTEnv",
    max_episode_steps=300,
)

# No registered time limit: the environment truncates by itself after 2 * goal_horizon steps, so that the
# limit follows the argument.
register(
    id="grasp_envs/PushTReach-v0",
    entry_point="grasp_envs.pusht_reach:PushTReachEnv",
)

# As there: they truncate by themselves, after a number of steps that is an argument or follows from the map.
register(
    id="grasp_envs/Wall-v0",
    entry_point="grasp_envs.wall:WallEnv",
)
register(
    id="grasp_envs/PointMaze-v0",
    entry_point="grasp_envs.point_maze:PointMazeEnv",
)
# The same mazes as the package gymnasium-robotics has them, which must be installed.
register(
    id="grasp_envs/MujocoPointMaze-v0",
    entry_point="grasp_envs.mujoco_point_maze:MujocoPointMazeEnv",
)
register(
    id="grasp_envs/BallNav-v0",
    entry_point="grasp_envs.ball_nav:BallNavEnv",
)
