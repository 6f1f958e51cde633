// Package reconcile keeps services at their desired count and carries their
// deployments out: Plan compares what users asked for with the tasks that there
// are, and answers which tasks to create and to stop, and what to tell of it.
//
// # Terms
//
// A task is alive until it has stopped. It is wanted while its desired status is
// RUNNING and it does not end by itself, and leaving after that. The primary
// deployment is what the service is to become; a task is stale if it is of an
// older deployment or on a host that is draining. D is the desired count,
// minimum is minimumHealthyPercent of D rounded up, maximum is maximumPercent of
// D rounded down.
//
// # Rules of a rolling update
//
//   - A start never takes the tasks that are RUNNING or on the way there, leaving
//     ones included until their host says that they end, above the maximum. A
//     stop never takes the healthy ones below the minimum.
//   - A stale task is stopped when a healthy primary one has taken its place, or
//     when there is no room to start one without that; at once if it has no host.
//   - Who leaves first: tasks not placed, then those starting, those not healthy,
//     those on hosts that drain or are not connected, and then the youngest.
//   - A task without a health check is healthy at once if its deployment is
//     proven: one of its tasks has run for the proving time, and none failed
//     since. Else it must have run for the proving time itself.
//   - A task that fails its health check is stopped and replaced.
//   - Tasks that stop by themselves are failures. From the fourth in a row on, of
//     tasks that ran for less than ten seconds, starts are delayed, twice as
//     long each time, up to 15 minutes; a new deployment starts afresh.
//   - The circuit breaker counts every failure of a rollout.
//
// Ids of tasks are hashes of the service, the deployment and a number that is
// stored with them, so that a plan applied twice creates nothing twice.
//
// It is pure, and knows nothing of placement but what Config.Check answers.
package reconcile
