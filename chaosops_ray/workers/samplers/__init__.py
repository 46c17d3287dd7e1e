"""The token engines under a policy, behind one protocol."""
