"""Statistics on arrays: no models, no prompts."""
