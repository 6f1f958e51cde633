package reconcile

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// maxEvents is how many events a service keeps (ECS: 100).
const maxEvents = 100

// placementReminder is how often an unchanged placement failure is told again.
const placementReminder = 6 * time.Hour

// tell adds an event: "(service NAME) MESSAGE".
func (w *work) tell(message string) {
	message = w.message(message)
	h := w.hash(message, fmt.Sprint(w.now.UnixNano()), fmt.Sprint(len(w.status.Events)))
	id := fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:32])
	w.told = true
	w.status.Events = append([]*pb.ServiceEvent{{Id: id, CreatedAt: timestamppb.New(w.now), Message: message}}, w.status.Events...)
	if len(w.status.Events) > maxEvents {
		w.status.Events = w.status.Events[:maxEvents]
	}
}

// tellOnce adds an event unless it is the newest one.
func (w *work) tellOnce(message string) {
	if events := w.status.GetEvents(); len(events) == 0 || events[0].GetMessage() != w.message(message) {
		w.tell(message)
	}
}

func (w *work) message(message string) string {
	return fmt.Sprintf("(service %s) %s", w.desire.GetServiceName(), message)
}

func (w *work) tellStartsAndStops() {
	if n := len(w.started); n > 0 {
		w.tell(fmt.Sprintf("has started %d tasks: %s.", n, list(w.started)))
	}
	if n := len(w.ended); n > 0 {
		w.tell(fmt.Sprintf("has stopped %d running tasks: %s.", n, list(w.ended)))
	}
}

// list names the first ten.
func list(ids []string) string {
	var b strings.Builder
	for i, id := range ids {
		if i == 10 {
			fmt.Fprintf(&b, " and %d more", len(ids)-10)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("(task " + id + ")")
	}
	return b.String()
}

// tellPlacement tells that tasks find no host, once for each new reason.
func (w *work) tellPlacement() {
	failure := ""
	for _, t := range w.alive {
		if f := t.Record.GetPlacementFailure(); f != "" && t.DesiredStatus() == taskstate.Running && t.Record.GetInstance() == "" {
			failure = f
			break
		}
	}
	kind, _, _ := strings.Cut(failure, " ")
	again := w.status.GetReportedPlacementFailureAt().AsTime().Add(placementReminder)
	switch {
	case failure == "":
		w.status.ReportedPlacementFailure, w.status.ReportedPlacementFailureAt = "", nil
	case kind != w.status.GetReportedPlacementFailure() || !w.now.Before(again):
		w.status.ReportedPlacementFailure, w.status.ReportedPlacementFailureAt = kind, timestamppb.New(w.now)
		w.tell("was unable to place a task because no container instance met all of its requirements. Reason: " + failure + ".")
	}
}
