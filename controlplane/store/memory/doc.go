// Package memory is the store in memory, for tests and simulation. It keeps
// the contract that storetest checks, adds nothing of its own to the order of
// things (a commit is visible when Commit returns), and can be told to misbehave:
// fail commits, and show stale snapshots.
//
// It owns the records. OnChange's functions are called from a goroutine that
// runs while there is something to tell. It imports no etcd.
package memory
