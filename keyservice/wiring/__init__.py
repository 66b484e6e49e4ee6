"""The composition roots: from settings to a running key service. Nothing else knows an adapter."""
