package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/plimsoll-project/plimsoll/cmd/plim/render"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// progress follows one service from a change to the steady state.
type progress struct {
	// definition is the task definition that was asked for.
	definition string
	// before is the id of the deployment that a new one is to follow; empty if
	// none is to.
	before string
	// seen is set once a deployment of what was asked for was there: until then
	// the service is as it was before.
	seen bool
	// since hides events from before.
	since time.Time
	// events that were shown, by id.
	events map[string]bool
	line   string
}

// step takes the service as it is now: what is new to show, whether it is
// steady, and whether it went wrong.
func (p *progress) step(s *pb.Service) (news []string, steady bool, err error) {
	for i := len(s.GetEvents()) - 1; i >= 0; i-- {
		e := s.GetEvents()[i]
		if p.events[e.GetId()] || e.GetCreatedAt().AsTime().Before(p.since) {
			continue
		}
		p.events[e.GetId()] = true
		news = append(news, e.GetMessage())
	}
	var parts []string
	for _, d := range s.GetDeployments() {
		part := fmt.Sprintf("%s %d/%d running", render.ShortARN(d.GetTaskDefinition()), d.GetRunningCount(), d.GetDesiredCount())
		if d.GetPendingCount() > 0 {
			part += fmt.Sprintf(", %d pending", d.GetPendingCount())
		}
		if d.GetFailedTasks() > 0 {
			part += fmt.Sprintf(", %d failed", d.GetFailedTasks())
		}
		parts = append(parts, part)
	}
	if line := strings.Join(parts, "; "); line != p.line {
		p.line = line
		news = append(news, line)
	}
	if s.GetStatus() != "ACTIVE" {
		return news, false, fmt.Errorf("service %s is %s", s.GetServiceName(), s.GetStatus())
	}
	for _, d := range s.GetDeployments() {
		if d.GetRolloutState() == pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_FAILED && d.GetTaskDefinition() == p.definition {
			return news, false, fmt.Errorf("the deployment of %s failed (%s)", render.ShortARN(p.definition),
				or(d.GetRolloutStateReason(), "its tasks do not stay up"))
		}
	}
	newest := primary(s)
	for _, d := range s.GetDeployments() {
		p.seen = p.seen || d.GetTaskDefinition() == p.definition && (p.before == "" || d.GetId() != p.before)
	}
	if newest == nil || !p.seen || len(s.GetDeployments()) != 1 || newest.GetRunningCount() != newest.GetDesiredCount() || newest.GetPendingCount() != 0 ||
		s.GetRunningCount() != s.GetDesiredCount() ||
		newest.GetRolloutState() == pb.DeploymentRolloutState_DEPLOYMENT_ROLLOUT_STATE_IN_PROGRESS {
		return news, false, nil
	}
	if newest.GetTaskDefinition() != p.definition {
		return news, true, fmt.Errorf("service %s was rolled back to %s", s.GetServiceName(), render.ShortARN(newest.GetTaskDefinition()))
	}
	return news, true, nil
}

// waitSteady shows how a service gets on until it is steady. It fails if the
// deployment does, and after timeout. before is the deployment that a new one
// is to follow, empty if none is to.
func (a *app) waitSteady(ctx context.Context, s *pb.Service, before string, timeout time.Duration) error {
	name := s.GetServiceName()
	where := hintEvents(name)
	// The server's clock may be behind ours; its newest event tells what is old.
	since := time.Time{}
	if len(s.GetEvents()) > 0 {
		since = s.GetEvents()[0].GetCreatedAt().AsTime().Add(time.Nanosecond)
	}
	p := &progress{definition: s.GetTaskDefinition(), before: before, since: since, events: map[string]bool{}}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, hint(fmt.Errorf("service %s is not steady after %s", name, timeout), "%s", where))
	defer cancel()
	return a.poll(ctx, func() (bool, error) {
		r, err := a.services(ctx, []string{name})
		if err != nil {
			return false, err
		}
		if len(r.GetServices()) == 0 {
			return false, missingService(name)
		}
		news, steady, err := p.step(r.GetServices()[0])
		for _, n := range news {
			a.say("%s  %s", a.palette().Dim(a.now().Format(time.TimeOnly)), n)
		}
		switch {
		case err != nil:
			return false, hint(err, "%s", where)
		case steady:
			return true, a.show(a.out, r, func(w io.Writer) error { return a.serviceTable(w, r.GetServices()) })
		}
		return false, nil
	})
}

func hintEvents(service string) string {
	return fmt.Sprintf(`see "plim service events %s" and "plim task ls --stopped --service %s"`, service, service)
}

// waitGone waits until a deleted service's last task has stopped.
func (a *app) waitGone(ctx context.Context, name string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, hint(fmt.Errorf("service %s has tasks left after %s", name, timeout), "%s", hintEvents(name)))
	defer cancel()
	return a.poll(ctx, func() (bool, error) {
		r, err := a.services(ctx, []string{name})
		if err != nil {
			return false, err
		}
		return len(r.GetServices()) == 0 || r.GetServices()[0].GetStatus() == "INACTIVE", nil
	})
}

// poll calls check until it says true, fails, or ctx ends.
func (a *app) poll(ctx context.Context, check func() (bool, error)) error {
	ticker := time.NewTicker(300 * time.Millisecond)
	defer ticker.Stop()
	for {
		done, err := check()
		var known *hinted
		switch {
		case errors.As(err, &known):
			return err
		case err != nil:
			return cause(ctx, err)
		case done:
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return cause(ctx, ctx.Err())
		}
	}
}
