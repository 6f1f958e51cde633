// Command bench measures Plimsoll against the raw limits of the machine and
// against Docker Swarm, interleaved in one run, and prints a table: launch,
// scale-out, replacement, rolling update, stop, and the memory of agent and
// plimd. It needs root, containerd, runc, the standard CNI plugins and dockerd;
// `make bench` installs them.
//
// The raw baseline drives the same containerd with the same client library:
// snapshot, container, task, start, with no network; and the same with the
// standard CNI plugins executed (bridge and portmap), as most agents do.
package main
