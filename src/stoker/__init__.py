"""Stoker: learn, judge and deploy the policies that keep serverless GPUs warm.

Importing the package registers every environment id; it loads neither torch nor compiled code.
"""

from stoker.envs.registry import register_envs

__version__ = "0.1.0"

register_envs()
