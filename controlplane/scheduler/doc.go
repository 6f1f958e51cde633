// Package scheduler is where tasks get their host: it owns the lock under which
// placements are decided and written, so that the loops that bind tasks and the
// API calls that start tasks see each other's bindings.
//
// The decisions are decide/placement's; this package reads the snapshot, calls
// them, commits with the leader's fence, and waits until the snapshot shows
// what was written. It runs no goroutines.
package scheduler
