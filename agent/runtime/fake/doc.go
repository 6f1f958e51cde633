// Package fake is a runtime in memory for the agent's tests: containers whose
// life is a Script, faults on request, and a record of every call. It passes
// the suite in runtime/runtimetest.
//
// It owns its containers and runs one timer for each container that ends by
// itself; Close stops them. Time comes from package time, so that a test inside
// testing/synctest decides it. It must import nothing of the agent but runtime.
package fake
