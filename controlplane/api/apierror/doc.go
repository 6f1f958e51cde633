// Package apierror makes the API's errors: gRPC statuses that carry ECS's
// exception in a google.rpc.ErrorInfo, whose reason is the exception's name and
// whose domain is Domain. Every door turns them into its own form.
//
// The package keeps no state and runs no goroutines; it imports neither store
// nor model.
package apierror
