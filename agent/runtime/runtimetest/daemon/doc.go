// Package daemon runs a private containerd for tests, with root, state and
// socket in a directory of its own. It owns that process, ends it with the
// test, and runs one goroutine that waits for it.
package daemon
