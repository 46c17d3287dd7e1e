"""The thirty tools: one record each, listed by group."""

from chaosops_ray.sim.tools.catalog import action, computation, retrieval, storage, validation

_ALL = (*retrieval.TOOLS, *computation.TOOLS, *storage.TOOLS, *validation.TOOLS, *action.TOOLS)
TOOLS = {tool.name: tool for tool in _ALL}
