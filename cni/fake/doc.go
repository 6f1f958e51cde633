// Package fake is a network in memory for the agent's tests: addresses and
// ports that are only counted, faults on request.
//
// It owns its attachments and runs no goroutines. It must import nothing but
// cni.
package fake
