// Package node is plim-agent's composition root: it joins the cluster, opens
// journal, containerd, network and logs, takes over what runs, and holds the
// session until it is told to end. Its end leaves every container running.
//
// Goroutines: the session, the log rotator, the observer of the runtime, and
// those of the tasks; Run waits for all.
package node
