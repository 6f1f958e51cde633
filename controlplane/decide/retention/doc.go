// Package retention decides which records are kept no longer: tasks that stopped
// long ago or are too many, services deleted long ago, statuses whose task is
// gone, and join tokens that nobody can use. It is pure: no I/O, no clock, no
// state of its own.
package retention
