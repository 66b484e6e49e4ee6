//go:build tools

// Package tools keeps the server in go.mod, where its version is pinned.
package tools

import _ "github.com/hashicorp/vault"
