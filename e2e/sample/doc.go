// Package sample builds the image of the sample web server that tests and the
// demo run: with the go tool alone, from this repository, byte for byte the same
// each time.
//
// It owns no state and runs no goroutines. It must not import the control plane
// or the agent.
package sample
