package runner

// Phase is how far a container is.
type Phase int

// The phases in their order. A container that fails on the way goes to Stopped.
const (
	None Phase = iota
	Pulled
	Networked
	Created
	Running
	Stopped
	Removed
)

// Step is one thing to do for one container; for the task when Container is -1.
type Step struct {
	Container int
	Do        Action
}

// Action is what a Step does.
type Action int

// The actions.
const (
	Pull Action = iota + 1
	Connect
	Create
	Start
	Signal // ask the process to end
	Kill   // end it
	Remove // delete container and network
	Finish // the task is over: nothing of it is left
)

// State is what Next decides on.
type State struct {
	// Ending is set once the task is to end, for whatever reason.
	Ending     bool
	Containers []ContainerState
}

// ContainerState is one container's.
type ContainerState struct {
	Phase Phase
	// Busy is set while a step of the container is being done.
	Busy bool
	// Signalled is set once it was asked to end, Expired once its time to do so
	// is over, Killed once it was killed.
	Signalled, Expired, Killed bool
}

// Next answers every step that can be taken now. It is pure.
func Next(s State) []Step {
	var steps []Step
	removed := 0
	for i, c := range s.Containers {
		if c.Phase == Removed {
			removed++
		}
		if c.Busy {
			continue
		}
		if do := next(s.Ending, c); do != 0 {
			steps = append(steps, Step{i, do})
		}
	}
	if s.Ending && removed == len(s.Containers) {
		steps = append(steps, Step{-1, Finish})
	}
	return steps
}

func next(ending bool, c ContainerState) Action {
	switch {
	case !ending:
		switch c.Phase {
		case None:
			return Pull
		case Pulled:
			return Connect
		case Networked:
			return Create
		case Created:
			return Start
		}
		return 0
	case c.Phase == Removed:
		return 0
	case c.Phase == Running && !c.Signalled:
		return Signal
	case c.Phase == Running && c.Expired && !c.Killed:
		return Kill
	case c.Phase == Running:
		return 0
	}
	return Remove
}
