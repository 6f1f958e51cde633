package runner

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestNext(t *testing.T) {
	for _, c := range []struct {
		name string
		in   State
		want []Step
	}{
		{"a new task pulls", State{Containers: []ContainerState{{}, {}}}, []Step{{0, Pull}, {1, Pull}}},
		{"containers advance side by side", State{Containers: []ContainerState{{Phase: Pulled}, {Phase: Networked}, {Phase: Created}}},
			[]Step{{0, Connect}, {1, Create}, {2, Start}}},
		{"a busy one waits", State{Containers: []ContainerState{{Busy: true}, {Phase: Running}}}, nil},
		{"a stop signals what runs and removes the rest", State{Ending: true, Containers: []ContainerState{{Phase: Running}, {Phase: Created}, {}}},
			[]Step{{0, Signal}, {1, Remove}, {2, Remove}}},
		{"a signalled one has its time", State{Ending: true, Containers: []ContainerState{{Phase: Running, Signalled: true}}}, nil},
		{"then it is killed", State{Ending: true, Containers: []ContainerState{{Phase: Running, Signalled: true, Expired: true}}}, []Step{{0, Kill}}},
		{"once", State{Ending: true, Containers: []ContainerState{{Phase: Running, Signalled: true, Expired: true, Killed: true}}}, nil},
		{"an exited one is removed", State{Ending: true, Containers: []ContainerState{{Phase: Stopped}}}, []Step{{0, Remove}}},
		{"an exited one that is not essential stays while the others run", State{Containers: []ContainerState{{Phase: Stopped}, {Phase: Running}}}, nil},
		{"over when all are removed", State{Ending: true, Containers: []ContainerState{{Phase: Removed}, {Phase: Removed}}}, []Step{{-1, Finish}}},
	} {
		if diff := cmp.Diff(c.want, Next(c.in)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// TestEveryEndingTaskFinishes: from any state, doing what Next says ends.
func TestEveryEndingTaskFinishes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := State{Ending: true}
		for range rapid.IntRange(1, 5).Draw(t, "containers") {
			s.Containers = append(s.Containers, ContainerState{
				Phase: Phase(rapid.IntRange(0, int(Removed)).Draw(t, "phase")), Signalled: rapid.Bool().Draw(t, "signalled"),
			})
		}
		for range 100 {
			for _, step := range Next(s) {
				if step.Do == Finish {
					return
				}
				c := &s.Containers[step.Container]
				switch step.Do {
				case Signal:
					c.Signalled = true
				case Kill:
					c.Killed, c.Phase = true, Stopped
				case Remove:
					c.Phase = Removed
				default:
					t.Fatalf("an ending task does %v", step)
				}
			}
			for i := range s.Containers {
				s.Containers[i].Expired = s.Containers[i].Signalled
			}
		}
		t.Fatalf("not finished: %+v", s)
	})
}
