// Package sessiontest is a small control plane for the agent's tests: it speaks
// the agent protocol over TLS on loopback, lets hosts join, assigns what the test
// says, and keeps what hosts report. It keeps the protocol's promises: COMPLETE
// then INCREMENTAL sets, a status taken once and only forward.
//
// It owns its listener and its authority; its goroutines are the gRPC server's
// and end with the test. It must not import the control plane or the agent.
package sessiontest
