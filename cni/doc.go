// Package cni programs the networks of tasks in-process, with netlink and
// nftables: bridge mode's network namespace, veth pair, address and published
// ports.
//
// It keeps no state of its own but what the kernel and its directory of named
// namespaces hold, so that it can be stopped at any instruction: List says what
// exists, Delete removes it from any half-made state, and GC removes what nobody
// owns.
package cni
