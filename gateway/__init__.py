"""The gateway: bytes in, sealed as they stream, on a quorum of stores, and the same bytes out.

Layers, top to bottom (kept by import-linter): `cli`, `app` · `http` · use cases (`uploads`,
`downloads`, `listing`, ...) · `replication`, `pump` · `ports`, `model`, `errors`. Adapters (`stores/`,
`catalog/`) implement ports and know no use case.
"""
