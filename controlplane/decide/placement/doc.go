// Package placement binds tasks to container instances: it filters hosts by
// what they have left and by constraints, and fills them by a chain of
// strategies, as Amazon ECS does (ECS developer guide, "Task placement").
//
// Tasks that take the same and have the same constraints and strategy form a
// group. Hosts are filtered once for each group and then kept in heaps, so that
// a further task of the group costs the logarithm of the hosts. What is placed
// in one Plan counts for what comes after it.
//
// A chain is hierarchical: spread by an attribute first picks the value with
// the fewest tasks of the service (or of the task's group), and what follows
// decides among its hosts. Spread by instanceId or host, binpack and random are
// decided host by host, an earlier one before a later one. Without a strategy
// tasks are spread by attribute:ecs.availability-zone and then by instanceId.
//
// It is pure: no I/O, no clock, no randomness but hashes.
package placement
