// Package api is the API's handlers: EcsService with ECS's semantics, and
// AdminService beside it. A handler validates, writes what is desired, and
// answers from a snapshot that shows its own write; it never waits for the
// cluster to follow.
//
// The package owns the records of clusters, task definitions, services and what
// users set on container instances (the dispatcher writes how a host registered
// itself, the service reconciler a service's status). Tasks that RunTask and
// StartTask make are stored by the Scheduler; StopTask writes the task's desired
// status under the leader's fence.
//
// It runs no goroutines, and imports no etcd, no gRPC transport and no
// controller.
package api
