// Package lab makes a cluster of real hosts on one machine, for `plim dev` and
// for the end-to-end tests.
//
// A host is a set of Linux namespaces held by an init process: process ids,
// mounts and, when there is more than one host, network and host name. Inside
// run a private containerd and a plim-agent. Since the init process is the
// first of its process namespace, its end is a power loss: the kernel kills the
// agent, containerd, the shims and every container, and all mounts go with
// them. Hosts hang on a bridge of the machine, on which plimd listens too.
//
//	machine                      plimd 127.0.0.1:7400, 10.77.0.1:7400
//	  └─ bridge plimdev0 10.77.0.1/24
//	       ├─ node-1 10.77.0.11   init ─ containerd ─ plim-agent ─ shims ─ containers
//	       └─ node-2 10.77.0.12   ...
//
// State it owns: the data directory and lab.json in it, which names all that
// was made outside of the directory, before it is made. Another process can
// take the lab down from that file alone, also after the one that started it
// was killed. Processes are recorded with their start time and signalled
// through pidfds, so that a process that merely has the same id is never hit.
//
// Goroutines: one that waits for each process, and short-lived ones on threads
// of their own that start processes inside namespaces; Stop waits for all.
//
// It must not import the control plane or the agent: it starts the programs.
package lab
