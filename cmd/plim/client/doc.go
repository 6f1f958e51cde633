// Package client connects the command line, and the lab that it starts, to a
// control plane: where it is and with which identity, from flags or from the
// environment.
//
// It owns no state but the connection and runs no goroutines of its own. It
// must not import the control plane or the agent.
package client
