// Package taskstate holds the states that a task goes through and the legal
// moves between them, as Amazon ECS defines them (ECS developer guide, "Task
// lifecycle"). It is a pure leaf that the control plane and the agent share;
// it imports the standard library alone.
package taskstate
