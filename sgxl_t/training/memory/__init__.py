"""Memory that a run would need, before it is started."""
