"""The client of the key service: for gateways, and for administrators' commands."""
