// Package store keeps the control plane's records: an in-memory snapshot kept
// current by one watch, and a committer that coalesces the writes of all
// callers into transactions. The etcd implementation is in store/etcd, the
// in-memory one for tests and simulation in store/memory; both pass the suite
// in store/storetest.
//
// Reads never leave memory. Every write says which revision of the record it
// expects, and loops and sessions add the fence that says who they are.
//
// The package itself holds no state and runs no goroutines; it imports model
// alone, so that whoever uses a store links no etcd.
package store
