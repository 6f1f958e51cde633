// Package model is the control plane's view of the whole truth: an immutable
// Snapshot of every stored record at one revision, with the figures that
// decisions need kept incrementally (what a host has left, a service's tasks).
//
// A Snapshot never changes once it is made; With makes the next one from it in
// time that depends on the change, not on the whole. Everything reachable from
// a Snapshot, protobuf messages included, is shared and must not be modified:
// clone a message before changing it.
//
// Records are found by Key; Write and Plan are what deciders answer with. The
// package does no I/O and imports proto and the standard library beside the
// copy-on-write tree under its tables.
package model
