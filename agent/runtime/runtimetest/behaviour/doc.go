// Package behaviour says what a test container does: the program in
// runtimetest/testimage obeys it, and so does the fake runtime in its tests.
// It holds no state, runs no goroutines and imports the standard library alone.
package behaviour
