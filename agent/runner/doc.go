// Package runner runs tasks: each has one goroutine that owns its state, decides
// with the pure function Next what can be done now, and has that done by
// short-lived goroutines whose results come back to it.
//
// A task's containers advance side by side. Launches on a host are bounded by a
// semaphore that stops never wait for. Everything that a task does is tried
// again, or given up with a reason, and has a deadline.
//
// It must not import containerd or the control plane.
package runner
