// Package runtimetest is the suite that every runtime.Runtime passes. Run takes
// a Harness that says how the runtime under test is asked for a behaviour. The
// package owns no state and runs no goroutines beyond its tests.
//
// runtimetest/behaviour is what a test container does, runtimetest/testimage
// the image whose program does it, runtimetest/daemon a private containerd.
package runtimetest
