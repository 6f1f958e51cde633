// Package resources works out what a task takes from its host. It is pure.
package resources
