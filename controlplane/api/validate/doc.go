// Package validate says what is wrong with a request, before anything is looked
// up: names and formats, what must be given, what contradicts itself, and what
// ECS knows and Plimsoll does not honour yet.
//
// The last is a walk over the whole request by reflection: a member that is set
// and has no rule in the tables of honoured.go is refused by name, so that
// nothing is taken and then forgotten.
//
// Everything is pure. The package keeps no state, runs no goroutines, and
// imports no store.
package validate
