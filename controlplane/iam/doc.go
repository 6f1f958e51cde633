// Package iam is the control plane's trust: its certificate authority, the
// identities in certificates, join tokens and registry passwords, and the gRPC
// interceptors that let each identity call only what is its own.
//
// It owns the AuthorityRecord and counts down JoinTokenRecords. The authority's
// private key is in the store sealed under a key file that never leaves the
// servers. It runs no goroutines and must not import the API or the deciders.
package iam
