// Package render writes what the command line shows: aligned tables, and ECS's
// messages as JSON or YAML.
//
// It owns no state and runs no goroutines. It must not call the control plane.
package render
