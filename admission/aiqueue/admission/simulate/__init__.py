"""The production engine on a virtual clock: what would happen to these jobs under this configuration."""
