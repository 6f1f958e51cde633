package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// session is one host's stream.
type session struct {
	d     *Dispatcher
	host  Host
	epoch int64
	// fence holds while the session's record is the one this session wrote.
	fence store.Fence

	cancel  context.CancelCauseFunc
	dirty   chan struct{}            // cap 1: compute the assignments again
	control chan *pb.SessionResponse // acks and tunnels, to the sender
	seen    chan struct{}            // cap 1: the host said something
	sent    map[string]int64         // the sender's: task id to record revision
	base    int64                    // the sender's: the last set's revision
	greeted *pb.Welcome              // the sender's: the last one
	stream  pb.AgentService_SessionServer
}

func (s *session) end(err error) { s.cancel(err) }

func (s *session) wake() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// Session runs a host's control stream until it breaks, the host falls silent,
// a newer one takes over, or the replica shuts down.
func (d *Dispatcher) Session(stream pb.AgentService_SessionServer) error {
	host, err := d.host(stream.Context())
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return status.Error(codes.InvalidArgument, "the session's first message must be a Hello")
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	s := &session{
		d: d, host: host, cancel: cancel, stream: stream, sent: map[string]int64{},
		dirty: make(chan struct{}, 1), control: make(chan *pb.SessionResponse, 64), seen: make(chan struct{}, 1),
	}
	if err := s.register(ctx, hello); err != nil {
		return err
	}
	if err := d.admit(s); err != nil {
		return err
	}
	d.cfg.Metrics.opened()
	d.cfg.Logger.Info("session opened", "cluster", host.Cluster, "instance", host.Instance, "epoch", s.epoch)
	err = s.run(ctx)
	d.leave(s, err)
	return err
}

// register writes the host's records and takes the session over.
func (s *session) register(ctx context.Context, hello *pb.Hello) error {
	if err := checkHello(hello); err != nil {
		return err
	}
	snap := s.d.cfg.Store.Snapshot()
	for {
		batch, err := s.registration(snap, hello)
		if err != nil {
			return err
		}
		rev, err := s.d.cfg.Store.Commit(ctx, batch)
		if errors.Is(err, store.ErrConflict) {
			if snap, err = s.d.cfg.Store.After(ctx, snap.Revision+1); err != nil {
				return status.FromContextError(err).Err()
			}
			continue
		}
		if err != nil {
			return status.Errorf(codes.Unavailable, "register container instance %s: %v", s.host.Instance, err)
		}
		key := model.Key{Kind: model.KindSession, Cluster: s.host.Cluster, ID: s.host.Instance}
		s.fence = store.Fence{Key: key.String(), Modified: rev}
		_, err = s.d.cfg.Store.After(ctx, rev)
		return err
	}
}

// registration is the batch that registers the host as of the snapshot.
func (s *session) registration(snap *model.Snapshot, hello *pb.Hello) (model.Batch, error) {
	if _, ok := snap.Clusters().Get(s.host.Cluster); !ok {
		return nil, status.Errorf(codes.FailedPrecondition, "cluster %q does not exist: create it, or remove the agent's data directory and join another", s.host.Cluster)
	}
	old, _ := snap.Instance(s.host.Cluster, s.host.Instance)
	if old == nil {
		old = &model.Instance{}
	}
	if old.Status() == model.InstanceInactive {
		return nil, errDeregistered
	}
	now := timestamppb.New(s.d.cfg.Now())
	registered := old.Record.GetInstance().GetRegisteredAt()
	if registered == nil {
		registered = now
	}
	record := &pb.ContainerInstanceRecord{
		Cluster: s.host.Cluster, Id: s.host.Instance, Hostname: hello.GetHostname(),
		Instance: &pb.ContainerInstance{
			ContainerInstanceArn: s.d.instanceARN(s.host), Ec2InstanceId: hello.GetHostname(),
			RegisteredResources: hello.GetResources(), Attributes: hello.GetAttributes(),
			VersionInfo: hello.GetVersionInfo(), RegisteredAt: registered,
			HealthStatus: health(old.Record.GetInstance().GetHealthStatus(), hello.GetRuntimeError(), now),
		},
	}
	s.epoch = old.Session.GetEpoch() + 1
	batch := model.Batch{{
		Key: model.Key{Kind: model.KindSession, Cluster: s.host.Cluster, ID: s.host.Instance},
		Value: &pb.SessionRecord{
			Cluster: s.host.Cluster, Instance: s.host.Instance, Replica: s.d.cfg.Replica,
			Epoch: s.epoch, Connected: true, ChangedAt: now,
		},
		If: old.SessionRevision,
	}}
	if !proto.Equal(old.Record, record) {
		batch = append(batch, model.Write{
			Key:   model.Key{Kind: model.KindInstance, Cluster: s.host.Cluster, ID: s.host.Instance},
			Value: record, If: old.RecordRevision,
		})
	}
	return batch, nil
}

func checkHello(h *pb.Hello) error {
	have := map[string]bool{}
	for _, r := range h.GetResources() {
		have[r.GetName()] = true
		if (r.GetName() == "CPU" || r.GetName() == "MEMORY") && r.GetIntegerValue() <= 0 {
			return status.Errorf(codes.InvalidArgument, "resource %s is %d: it must be above 0", r.GetName(), r.GetIntegerValue())
		}
	}
	if !have["CPU"] || !have["MEMORY"] {
		return status.Error(codes.InvalidArgument, "resources must have CPU (units) and MEMORY (MiB)")
	}
	if h.GetHostname() == "" {
		return status.Error(codes.InvalidArgument, "hostname is empty")
	}
	return nil
}

// admit makes s the host's session here; an older one is ended.
func (d *Dispatcher) admit(s *session) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return status.Error(codes.Unavailable, "the control plane replica is shutting down")
	}
	if old := d.sessions[s.host]; old != nil {
		if old.epoch > s.epoch {
			return errTakenOver
		}
		old.end(errTakenOver)
	}
	d.sessions[s.host] = s
	return nil
}

// leave forgets the session, and stores that the host is not connected unless
// somebody else has taken the session, or the replica as a whole goes.
func (d *Dispatcher) leave(s *session, cause error) {
	d.mu.Lock()
	current := d.sessions[s.host] == s
	if current {
		delete(d.sessions, s.host)
	}
	closed := d.closed
	d.mu.Unlock()
	d.cfg.Metrics.closed()
	d.cfg.Logger.Info("session closed", "cluster", s.host.Cluster, "instance", s.host.Instance, "epoch", s.epoch, "err", cause)
	if !current || closed {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.stream.Context()), 5*time.Second)
	defer cancel()
	_, err := d.cfg.Store.Commit(ctx, model.Batch{{
		Key: model.Key{Kind: model.KindSession, Cluster: s.host.Cluster, ID: s.host.Instance},
		Value: &pb.SessionRecord{
			Cluster: s.host.Cluster, Instance: s.host.Instance, Replica: d.cfg.Replica,
			Epoch: s.epoch, ChangedAt: timestamppb.New(d.cfg.Now()),
		},
		If: s.fence.Modified,
	}})
	if err != nil && !errors.Is(err, store.ErrConflict) {
		d.cfg.Logger.Warn("store the session's end", "instance", s.host.Instance, "err", err)
	}
}

// run sends and receives until either ends.
func (s *session) run(ctx context.Context) error {
	if err := s.greet(); err != nil {
		return err
	}
	s.wake()
	g, ctx := errgroup.WithContext(ctx)
	received, beats := make(chan *pb.StatusBatch), make(chan *pb.Heartbeat)
	// Recv ends with the stream, which ends when Session returns: it is not
	// waited for, and hands nothing on after that.
	go s.receive(ctx, received, beats)
	g.Go(func() error { return s.send(ctx) })
	g.Go(func() error { return s.keep(ctx) })
	g.Go(func() error { return s.take(ctx, received) })
	g.Go(func() error { return s.check(ctx, beats) })
	err := g.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// greet sends a Welcome unless the host had the same one.
func (s *session) greet() error {
	w := s.welcome()
	if proto.Equal(w, s.greeted) {
		return nil
	}
	s.greeted = w
	return s.stream.Send(&pb.SessionResponse{Message: &pb.SessionResponse_Welcome{Welcome: w}})
}

func (s *session) welcome() *pb.Welcome {
	c := s.d.cfg
	endpoints := slices.Clone(c.RegistryEndpoints)
	for _, row := range s.d.cfg.Store.Snapshot().Replicas().All() {
		for _, e := range row.Value.GetRegistryEndpoints() {
			if !slices.Contains(endpoints, e) {
				endpoints = append(endpoints, e)
			}
		}
	}
	return &pb.Welcome{
		ContainerInstanceArn: s.d.instanceARN(s.host), Epoch: s.epoch,
		HeartbeatSeconds: int32(max(1, c.Heartbeat/time.Second)),
		RegistryHost:     c.RegistryHost, RegistryEndpoints: endpoints,
		Region: c.Region, AccountId: c.AccountID,
	}
}

// receive reads the stream: every message shows that the host is alive.
func (s *session) receive(ctx context.Context, received chan<- *pb.StatusBatch, beats chan<- *pb.Heartbeat) {
	for {
		m, err := s.stream.Recv()
		if err != nil {
			s.end(fmt.Errorf("receive from the host: %w", err))
			return
		}
		select {
		case s.seen <- struct{}{}:
		default:
		}
		if b := m.GetStatuses(); b != nil {
			select {
			case received <- b:
			case <-ctx.Done():
				return
			}
		}
		if b := m.GetHeartbeat(); b != nil {
			select {
			case beats <- b:
			case <-ctx.Done():
				return
			}
		}
	}
}

// check stores whether the host's container runtime answers.
func (s *session) check(ctx context.Context, beats <-chan *pb.Heartbeat) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case b := <-beats:
			if err := s.checked(ctx, b.GetRuntimeError()); errors.Is(err, store.ErrFenced) {
				return errTakenOver
			} else if err != nil {
				return status.Errorf(codes.Unavailable, "store the host's health: %v", err)
			}
		}
	}
}

func (s *session) checked(ctx context.Context, runtimeError string) error {
	snap := s.d.cfg.Store.Snapshot()
	for {
		i, ok := snap.Instance(s.host.Cluster, s.host.Instance)
		if !ok || i.Record == nil {
			return nil
		}
		old := i.Record.GetInstance().GetHealthStatus()
		record := proto.CloneOf(i.Record)
		record.Instance.HealthStatus = health(old, runtimeError, timestamppb.New(s.d.cfg.Now()))
		if proto.Equal(old, record.GetInstance().GetHealthStatus()) {
			return nil
		}
		_, err := s.d.cfg.Store.Commit(ctx, model.Batch{{
			Key:   model.Key{Kind: model.KindInstance, Cluster: s.host.Cluster, ID: s.host.Instance},
			Value: record, If: i.RecordRevision,
		}}, s.fence)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		if snap, err = s.d.cfg.Store.After(ctx, snap.Revision+1); err != nil {
			return err
		}
	}
}

// health is a host's with its runtime as told now; old if that is no news.
func health(old *pb.ContainerInstanceHealthStatus, runtimeError string, now *timestamppb.Timestamp) *pb.ContainerInstanceHealthStatus {
	state := pb.InstanceHealthCheckState_INSTANCE_HEALTH_CHECK_STATE_OK
	if runtimeError != "" {
		state = pb.InstanceHealthCheckState_INSTANCE_HEALTH_CHECK_STATE_IMPAIRED
	}
	if d := old.GetDetails(); len(d) == 1 && d[0].GetStatus() == state && d[0].GetStatusReason() == runtimeError {
		return old
	}
	return &pb.ContainerInstanceHealthStatus{OverallStatus: state, Details: []*pb.InstanceHealthCheckResult{{
		Type: pb.InstanceHealthCheckType_INSTANCE_HEALTH_CHECK_TYPE_CONTAINER_RUNTIME, Status: state, StatusReason: runtimeError,
		LastUpdated: now, LastStatusChange: now,
	}}}
}

// keep ends the session of a host that is silent for three heartbeats.
func (s *session) keep(ctx context.Context) error {
	limit := 3 * s.d.cfg.Heartbeat
	t := time.NewTimer(limit)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.seen:
			t.Reset(limit)
		case <-t.C:
			return status.Errorf(codes.DeadlineExceeded, "the host sent nothing for %s", limit)
		}
	}
}

// send is the one writer of the stream after Welcome.
func (s *session) send(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case m := <-s.control:
			if err := s.stream.Send(m); err != nil {
				return err
			}
		case <-s.dirty:
			if err := s.greet(); err != nil {
				return err
			}
			if a := s.assignments(s.d.cfg.Store.Snapshot()); a != nil {
				if err := s.stream.Send(&pb.SessionResponse{Message: &pb.SessionResponse_Assignments{Assignments: a}}); err != nil {
					return err
				}
				s.d.cfg.Metrics.sent(len(a.GetUpdates()))
			}
		}
	}
}

// say hands a message to the sender.
func (s *session) say(ctx context.Context, m *pb.SessionResponse) error {
	select {
	case s.control <- m:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
