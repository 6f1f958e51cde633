// Package etcd is the store over etcd, the embedded server (StartEmbedded), and
// records that live as long as their process (EphemeralKeeper).
//
// A Store loads everything under model.Prefix at one revision and follows it
// with one watch; if the watch is lost or its revision compacted away, it loads
// again and publishes the difference. Commit coalesces the batches of
// concurrent callers into transactions: a batch goes out at once when nothing
// is in flight, and together with whatever else came meanwhile when something
// is. Two batches that touch one key never share a transaction and are never in
// flight together, so that each key's order is the callers'.
//
// A transaction whose conditions fail reads, in the same transaction, the
// revisions of all keys it asked about: the batches that do not hold are
// refused, the others go again.
//
// A Store runs one goroutine for the watch (it calls the observers) and one for
// each transaction in flight; Close waits for them. Bounds: MaxPending batches
// wait, further callers of Commit block until there is room or their context
// ends; MaxInFlight transactions are under way.
//
// Only this package, leader and server import etcd. It must not import deciders
// or anything above the store.
package etcd
