"""The composition roots: from settings to what runs. Nothing else knows an adapter."""
