"""Driving: the CARLA session, the Gymnasium environment, the policy and its learning."""


def _register() -> None:
    """Make the environments known to `gymnasium.make`; nothing of them is imported before they are made."""
    from importlib.util import find_spec

    if find_spec("gymnasium") is None:  # the `drive` extra is not installed: there is nothing to register with
        return
    from gymnasium.envs.registration import register, registry

    for name, kind in (("roadworthy/Drive-v0", "DriveEnv"), ("roadworthy/DriveSegDepth-v0", "DriveSegDepthEnv")):
        if name not in registry:
            register(name, entry_point=f"roadworthy.agent.env:{kind}")


_register()
