// Package sim runs the control plane's deciders against the store in memory and
// hosts that exist only here, in virtual time, from a seed: the same seed gives
// the same run. Hosts are cut off, come back, and lose power; tasks crash and
// fail to start; leaders change and old ones go on; commits are refused;
// plans are applied half; snapshots are stale; users deploy, scale, drain and
// delete meanwhile. What always holds is checked after every step, and at the
// end, with faults ended, that every service gets to where it is to be and stays
// there.
//
// What is checked (the numbers are those of docs/architecture.md's list):
//
//	2  a task is bound once, hosts are never overfilled, ports never used twice
//	3  services converge, and a cluster that has converged is left alone
//	4  no plan takes healthy tasks below the minimum or tasks above the maximum
//	5  statuses only move forward; a host never runs again what it has stopped
//
// It owns nothing but its own world and runs no goroutines. Nothing imports it.
package sim
