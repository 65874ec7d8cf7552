"""Driving: the CARLA session, the Gymnasium environment, the policy and its learning."""
