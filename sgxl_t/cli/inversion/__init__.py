"""Commands that take photographs back to latents."""
