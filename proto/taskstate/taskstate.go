package taskstate

import "slices"

// Status is a task's lastStatus or desiredStatus, or a container's lastStatus.
// The zero value is no status; statuses compare by their order in life.
type Status int

// The statuses in the order in which a task passes them. A task may skip some
// (ACTIVATING and DEACTIVATING are only passed where there is something to
// activate) and never goes back.
const (
	None Status = iota
	Provisioning
	Pending
	Activating
	Running
	Deactivating
	Stopping
	Deprovisioning
	Stopped
)

var names = []string{"", "PROVISIONING", "PENDING", "ACTIVATING", "RUNNING", "DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED"}

// String is the status's name on the wire, empty for None.
func (s Status) String() string {
	if s < 0 || int(s) >= len(names) {
		return ""
	}
	return names[s]
}

// Parse finds the status by its name on the wire; None when there is none.
func Parse(name string) Status {
	return Status(max(0, slices.Index(names, name)))
}

// CanMove says whether a task in status s may be reported in status to:
// statuses only move forward, and nothing moves from STOPPED.
func (s Status) CanMove(to Status) bool { return to > s }

// Starting says whether the task has not reached RUNNING.
func (s Status) Starting() bool { return s < Running }

// Ending says whether the task has passed RUNNING and is not yet STOPPED.
func (s Status) Ending() bool { return s > Running && s < Stopped }
