// Package testimage makes the image of the runtime's tests: one static program
// that obeys behaviour.Behaviour, built here and packed as an OCI image. It
// holds no state and runs no goroutines.
package testimage
