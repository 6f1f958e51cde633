// Package leader elects the one replica whose loops write: it campaigns in
// etcd, runs the leader's work for as long as it leads, and tells everybody who
// leads.
//
// It owns the election's keys under KeyPrefix. Each candidate has a key under a
// lease; the oldest leads, and the others wait for the one before them. A
// candidate is known by its replica's id, which outlives the process: a new
// process deletes what an earlier one of its id left, so that a restart after a
// crash leads at once and waits for no lease. The term's fence is the key and
// the revision that created it; when the key is gone, nothing of the term can
// be written any more.
//
// Run runs one goroutine that observes the election and two that guard the term
// (its lease, its key), and waits for all of them; the work runs on Run's own. The package imports etcd and
// store's Fence, and nothing that leads.
package leader
