"""How much memory a run would need in every launch mode, estimated before it starts (`--dry-run`)."""
