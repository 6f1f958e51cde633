// Package runtime is the agent's interface to what runs containers. The
// containerd implementation is in runtime/containerd, the fake for tests in
// runtime/fake; both pass the suite in runtime/runtimetest.
package runtime
