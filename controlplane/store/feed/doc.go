// Package feed is the reading half that every store implementation shares: the
// newest snapshot, those who wait for a revision, and those who are told of
// changes.
//
// It owns the pointer to the newest snapshot and the lists of readers. It runs
// no goroutines: Set and Notify work on their caller's, which must be one at a
// time for each. It imports model alone.
package feed
