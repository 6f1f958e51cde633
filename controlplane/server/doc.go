// Package server is plimd's composition root: it opens the store, makes the
// authority, and wires API, dispatcher, scheduler, controllers, registry and
// leader together. It decides nothing.
//
// Goroutines: one for each listener, one for the replica's own record, one for
// the election and, while this replica leads, one for each controller; Run
// waits for all of them.
package server
