package sim

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/decide/placement"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// The task definitions web:1 to web:6. The last two have a static host port.
const (
	definitions   = 6
	badDefinition = 4
	firstWithPort = 5
)

func definition(n int) *pb.TaskDefinitionRecord {
	c := &pb.ContainerDefinition{Name: "web", Cpu: int32(50 * n), Memory: proto.Int32(int32(40 * n))}
	if n >= firstWithPort {
		c.PortMappings = []*pb.PortMapping{{ContainerPort: proto.Int32(80), HostPort: proto.Int32(8080)}}
	}
	return &pb.TaskDefinitionRecord{TaskDefinition: &pb.TaskDefinition{Family: "web", Revision: int32(n), TaskDefinitionArn: arnOf(n),
		ContainerDefinitions: []*pb.ContainerDefinition{c}}}
}

func arnOf(n int) string {
	return fmt.Sprintf("arn:aws:ecs:us-east-1:123456789012:task-definition/web:%d", n)
}

// kind is what is fixed of a service.
type kind struct {
	name             string
	minimum, maximum int32
	daemon, port     bool
	breaker          bool
}

var kinds = []kind{
	{name: "broad", minimum: 100, maximum: 200, breaker: true},
	{name: "tight", minimum: 50, maximum: 100},
	{name: "middle", minimum: 75, maximum: 150},
	{name: "port", minimum: 0, maximum: 100, port: true},
	{name: "daemon", minimum: 0, maximum: 100, daemon: true},
}

// users do something now and then.
func (s *Sim) users() error {
	if !s.chance(60) {
		return nil
	}
	k := kinds[s.rng.IntN(len(kinds))]
	h := s.hosts[s.rng.IntN(len(s.hosts))]
	switch s.rng.IntN(16) {
	case 0:
		return s.remove(k)
	case 1:
		return s.state(h, model.InstanceDraining)
	case 2, 3:
		return s.state(h, model.InstanceActive)
	case 4, 5, 6, 7, 8, 9:
		return s.runTasks(1 + s.rng.IntN(4))
	case 10:
		return s.stopTask()
	case 11, 12:
		return s.set(k, false)
	default:
		return s.set(k, true)
	}
}

// definitionFor is one that the service may have.
func (s *Sim) definitionFor(k kind) int {
	switch {
	case k.port:
		return firstWithPort + s.rng.IntN(definitions-firstWithPort+1)
	case s.calm:
		return 1 + s.rng.IntN(badDefinition-1)
	}
	return 1 + s.rng.IntN(badDefinition)
}

// set creates the service, deploys another definition, or scales it.
func (s *Sim) set(k kind, deploy bool) error {
	old, exists := s.store.Truth().Service(clusterName, k.name)
	var batch model.Batch
	if exists && old.Record.GetService().GetStatus() != "ACTIVE" {
		if !old.Status.GetInactive() {
			return nil
		}
		batch = append(batch, write(model.KindServiceStatus, clusterName, k.name, nil))
		exists = false
	}
	r := &pb.ServiceRecord{Service: &pb.Service{
		ServiceName: k.name, ServiceArn: "arn:aws:ecs:us-east-1:123456789012:service/" + clusterName + "/" + k.name,
		ClusterArn: "arn:aws:ecs:us-east-1:123456789012:cluster/" + clusterName, Status: "ACTIVE", CreatedAt: timestamppb.New(s.now),
		DeploymentConfiguration: &pb.DeploymentConfiguration{
			MinimumHealthyPercent: proto.Int32(k.minimum), MaximumPercent: proto.Int32(k.maximum),
			DeploymentCircuitBreaker: &pb.DeploymentCircuitBreaker{Enable: k.breaker, Rollback: k.breaker},
		},
	}}
	if exists {
		r = proto.CloneOf(old.Record)
	}
	if deploy || !exists {
		s.serial++
		r.DeploymentId, r.DeploymentCreatedAt = fmt.Sprintf("ecs-svc/%019d", s.serial), timestamppb.New(s.now)
		r.Service.TaskDefinition = arnOf(s.definitionFor(k))
	}
	switch {
	case k.daemon:
		r.Service.SchedulingStrategy = pb.SchedulingStrategy_SCHEDULING_STRATEGY_DAEMON
	case !deploy || !exists:
		r.Service.DesiredCount = int32(s.rng.IntN(s.cfg.Hosts + 1))
		if k.minimum > 0 && k.maximum < 200 {
			// With one task the percents leave no room to replace it.
			r.Service.DesiredCount += 2
		}
	}
	s.say("users set %s to %d of %s", k.name, r.GetService().GetDesiredCount(), r.GetService().GetTaskDefinition())
	return s.commit(append(batch, write(model.KindService, clusterName, k.name, r)))
}

func (s *Sim) remove(k kind) error {
	old, ok := s.store.Truth().Service(clusterName, k.name)
	if !ok || old.Record.GetService().GetStatus() != "ACTIVE" {
		return nil
	}
	s.say("users delete %s", k.name)
	r := proto.CloneOf(old.Record)
	r.Service.Status, r.Service.DesiredCount = "DRAINING", 0
	return s.put(model.KindService, clusterName, k.name, r)
}

func (s *Sim) state(h *host, status string) error {
	s.say("users make %s %s", h.id, status)
	return s.put(model.KindInstanceState, clusterName, h.id, &pb.ContainerInstanceStateRecord{Cluster: clusterName, Instance: h.id, Status: status})
}

// runTasks places tasks as RunTask does: at the leader, on a snapshot that shows
// its earlier placements.
func (s *Sim) runTasks(n int) error {
	l := s.leaders[len(s.leaders)-1]
	snap := s.store.Snapshot()
	if !l.sees(snap) {
		return nil
	}
	need := &pb.TaskResources{Cpu: 200, Memory: 100 + s.rng.Int64N(900)}
	if s.chance(500) {
		need.HostPorts = []*pb.HostPort{{Port: 8080}}
	}
	var pending []*model.Task
	for range n {
		s.serial++
		id := fmt.Sprintf("%032x", s.serial)
		pending = append(pending, &model.Task{Record: &pb.TaskRecord{Cluster: clusterName, Id: id,
			Task:      &pb.Task{DesiredStatus: "RUNNING", TaskDefinitionArn: arnOf(1), Group: "family:web", CreatedAt: timestamppb.New(s.now)},
			Resources: need}})
	}
	res := placement.Plan(snap, pending, placement.Config{Seed: s.cfg.Seed})
	for _, b := range placement.Writes(snap, placement.Result{Bindings: res.Bindings}, s.now).Batches {
		rev, err := s.store.Commit(context.Background(), b, l.fence)
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrUnavailable) {
			return nil
		} else if err != nil {
			return fmt.Errorf("run tasks: %w", err)
		}
		l.wrote = rev
	}
	return nil
}

// stopTask stops some task as StopTask does.
func (s *Sim) stopTask() error {
	var running []*model.Task
	for t := range s.store.Truth().Tasks(clusterName) {
		if t.DesiredStatus() == taskstate.Running && !t.Stopped() {
			running = append(running, t)
		}
	}
	if len(running) == 0 {
		return nil
	}
	return s.stop(running[s.rng.IntN(len(running))])
}

func (s *Sim) stop(t *model.Task) error {
	r := proto.CloneOf(t.Record)
	r.Task.DesiredStatus, r.StopCode, r.StoppingAt = "STOPPED", pb.TaskStopCode_TASK_STOP_CODE_USER_INITIATED, timestamppb.New(s.now)
	if r.GetInstance() == "" {
		r.StoppedAt = r.GetStoppingAt()
	}
	s.say("users stop task %.6s", r.GetId())
	return s.put(model.KindTask, clusterName, r.GetId(), r)
}
