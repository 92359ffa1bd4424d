"""The search for the nodes that stay float."""
