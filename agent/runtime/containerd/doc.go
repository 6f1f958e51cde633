// Package containerd runs containers with containerd, 1.6 or newer, and its runc
// shim.
//
// A container here is a container record, a snapshot of the same name and a task
// in one namespace of containerd that belongs to Plimsoll alone. The record is
// written first, since it keeps containerd's garbage collector from the snapshot
// (and from a snapshot that is yet to come), which a lease would do with two more
// calls. A record that has neither a task nor the label that Start sets is a
// launch that never ended: it is answered to nobody, and removed by New and by
// the next Create of its name. With that label and no task the process is gone
// without a trace (its shim was killed, the host restarted): it is Stopped with 137.
//
// The shim writes stdout and stderr to the log file by itself, opened for append
// twice, so that the file may be truncated or have its head freed meanwhile.
// Each stream keeps its order; lines written to both within microseconds may
// swap, as they are two pipes.
//
// Every container gets Docker's default capabilities, containerd's default
// seccomp profile, masked and read-only paths, and a read-only view of its
// cgroups. AppArmor and SELinux labels are left to the host's defaults: none is
// set.
//
// The package keeps a bounded cache of image configurations. It runs one goroutine
// for each call of Events, until its context ends. It imports runtime, and
// nothing else of the agent.
package containerd
