// Package dispatcher is the control plane's side of the agent protocol: it
// holds the sessions of hosts, sends each host what it has to run, stores what
// each host reports, and opens tunnels to hosts.
//
// It writes ContainerInstanceRecord and SessionRecord when a host says hello,
// and TaskStatusRecord for the tasks of the hosts whose session it holds; every
// status is fenced by the session's record, so that a session that was taken
// over elsewhere can write no more.
//
// Goroutines: for each session the stream's own (it receives), one that sends,
// both ended before Session returns. Assignments are computed from the
// snapshot; a change of the store only marks the sessions that it touches.
//
// It must not import the deciders or the API.
package dispatcher
