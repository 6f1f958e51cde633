// Package session is the agent's side of the agent protocol: it joins, keeps the
// node certificate fresh, holds the control stream and reports.
//
// Run dials out, again and again, with growing pauses; nothing that it does
// touches a task but by the assignments that it hands on. The reporter keeps the
// newest status of each task until the control plane has taken it.
//
// It owns the identity's files. It must not import containerd.
package session
