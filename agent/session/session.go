package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// The pauses between connections: they double, and each is anywhere up to that.
const (
	firstPause = 100 * time.Millisecond
	mostPause  = 15 * time.Second
)

const (
	// connectTimeout bounds a connection, welcomeTimeout all until the server's
	// first message.
	connectTimeout = 5 * time.Second
	welcomeTimeout = 15 * time.Second
	// mostTunnels is how many tunnels a session carries at once.
	mostTunnels = 32
)

var errNoWelcome = fmt.Errorf("the server sent nothing for %s", welcomeTimeout)

// Handler is told what the control plane wants.
type Handler interface {
	// Welcomed is called at the beginning of each session.
	Welcomed(w *pb.Welcome)
	// Assigned is called for each set, in order. Its error ends the session.
	Assigned(ctx context.Context, a *pb.Assignments) error
	// Rejected is called with the tasks whose status the control plane does not
	// take: they are not this host's.
	Rejected(tasks []string)
	// Logs hands a container's output to send.
	Logs(ctx context.Context, r *pb.LogsTunnel, send func([]byte) error) error
}

// Config is what a Session needs.
type Config struct {
	Identity *Identity
	// Servers are host:port of control plane replicas.
	Servers []string
	Hello   func() *pb.Hello
	Handler Handler
	Logger  *slog.Logger
	// Connected is called when a session begins and when it ends.
	Connected func(bool)
}

// Session holds the control stream.
type Session struct {
	cfg      Config
	reporter *reporter
	// changed has the sender send a heartbeat now.
	changed chan struct{}

	mu           sync.Mutex
	runtimeError string
}

// New makes a Session.
func New(cfg Config) *Session {
	return &Session{cfg: cfg, reporter: newReporter(), changed: make(chan struct{}, 1)}
}

// SetRuntimeError has the control plane know that the container runtime does not
// answer, and why; that it does, if it is empty. It does not block.
func (s *Session) SetRuntimeError(reason string) {
	s.mu.Lock()
	same := s.runtimeError == reason
	s.runtimeError = reason
	s.mu.Unlock()
	if !same {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
}

func (s *Session) heartbeat() *pb.Heartbeat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &pb.Heartbeat{RuntimeError: s.runtimeError}
}

// Report takes a task's new status, to be sent until it is acknowledged. It does
// not block.
func (s *Session) Report(r *pb.TaskStatusRecord) { s.reporter.put(r) }

// Pending is how many tasks' statuses are not acknowledged.
func (s *Session) Pending() int {
	s.reporter.mu.Lock()
	defer s.reporter.mu.Unlock()
	return len(s.reporter.pending)
}

// Run holds a session, and another when it ends, until ctx ends or the host was
// deregistered.
func (s *Session) Run(ctx context.Context) error {
	pause := firstPause
	for n := 0; ; n++ {
		server := s.cfg.Servers[n%len(s.cfg.Servers)]
		began := time.Now()
		err := s.hold(ctx, server)
		s.cfg.Connected(false)
		if ctx.Err() != nil {
			return nil
		}
		if status.Code(err) == codes.FailedPrecondition {
			s.cfg.Logger.Error("session refused", "server", server, "err", err)
			pause = mostPause
		} else {
			s.cfg.Logger.Warn("session ended", "server", server, "err", err)
		}
		if time.Since(began) > mostPause {
			pause = firstPause
		}
		select {
		case <-time.After(time.Duration(rand.Int64N(int64(pause)) + int64(pause)/10)):
		case <-ctx.Done():
			return nil
		}
		pause = min(mostPause, 2*pause)
	}
}

// hold is one session.
func (s *Session) hold(ctx context.Context, server string) error {
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(credentials.NewTLS(s.cfg.Identity.TLS())),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := pb.NewAgentServiceClient(conn)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.AfterFunc(welcomeTimeout, func() { cancel(errNoWelcome) })
	defer patience.Stop()
	stream, err := client.Session(ctx)
	if err != nil {
		return err
	}
	hello := s.cfg.Hello()
	hello.RuntimeError = s.heartbeat().GetRuntimeError()
	if err := stream.Send(&pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: hello}}); err != nil {
		_, err = stream.Recv() // the reason is in the answer
		return err
	}
	first, err := stream.Recv()
	if errors.Is(context.Cause(ctx), errNoWelcome) {
		return errNoWelcome
	}
	if err != nil {
		return err
	}
	patience.Stop()
	w := first.GetWelcome()
	if w == nil {
		return errors.New("the server's first message is no Welcome")
	}
	s.cfg.Handler.Welcomed(w)
	s.cfg.Connected(true)
	s.cfg.Logger.Info("session begins", "server", server, "instance", s.cfg.Identity.Instance, "epoch", w.GetEpoch())
	g, ctx := errgroup.WithContext(ctx)
	acks := make(chan *pb.StatusAck, 1)
	g.Go(func() error {
		return s.send(ctx, stream, acks, max(1, time.Duration(w.GetHeartbeatSeconds()))*time.Second)
	})
	g.Go(func() error { return s.receive(ctx, client, stream, acks, g) })
	g.Go(func() error { return s.renew(ctx, client) })
	return g.Wait()
}

// send is the stream's one writer: statuses, a batch at a time, and heartbeats.
func (s *Session) send(ctx context.Context, stream pb.AgentService_SessionClient, acks <-chan *pb.StatusAck, every time.Duration) error {
	beat := time.NewTicker(every)
	defer beat.Stop()
	var sequence int64
	var flying []*pb.TaskStatusRecord
	// What the last session sent, and never heard of, goes again.
	s.reporter.poke()
	sendBeat := func() error {
		return stream.Send(&pb.SessionRequest{Message: &pb.SessionRequest_Heartbeat{Heartbeat: s.heartbeat()}})
	}
	for {
		wake := s.reporter.wake
		if flying != nil {
			wake = nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-beat.C:
			if err := sendBeat(); err != nil {
				return err
			}
		case <-s.changed:
			if err := sendBeat(); err != nil {
				return err
			}
		case <-wake:
			if flying = s.reporter.batch(); flying == nil {
				continue
			}
			sequence++
			if err := stream.Send(&pb.SessionRequest{Message: &pb.SessionRequest_Statuses{
				Statuses: &pb.StatusBatch{Sequence: sequence, Statuses: flying}}}); err != nil {
				return err
			}
		case ack := <-acks:
			if ack.GetSequence() != sequence {
				return fmt.Errorf("batch %d was acknowledged, %d was sent", ack.GetSequence(), sequence)
			}
			s.reporter.done(flying)
			flying = nil
			if len(ack.GetRejected()) > 0 {
				s.cfg.Handler.Rejected(ack.GetRejected())
			}
		}
	}
}

// receive hands on what the server says.
func (s *Session) receive(ctx context.Context, client pb.AgentServiceClient, stream pb.AgentService_SessionClient, acks chan<- *pb.StatusAck, g *errgroup.Group) error {
	var revision int64
	tunnels := make(chan struct{}, mostTunnels)
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		switch {
		case m.GetWelcome() != nil: // something in it changed
			s.cfg.Handler.Welcomed(m.GetWelcome())
		case m.GetAck() != nil:
			select {
			case acks <- m.GetAck():
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case m.GetAssignments() != nil:
			a := m.GetAssignments()
			if a.GetType() == pb.Assignments_TYPE_INCREMENTAL && a.GetBaseRevision() != revision {
				return fmt.Errorf("assignments at revision %d follow %d, the last were at %d", a.GetRevision(), a.GetBaseRevision(), revision)
			}
			revision = a.GetRevision()
			if err := s.cfg.Handler.Assigned(ctx, a); err != nil {
				return err
			}
		case m.GetOpenTunnel() != nil:
			select {
			case tunnels <- struct{}{}:
			default:
				s.cfg.Logger.Warn("a tunnel is refused: too many are open", "count", mostTunnels)
				continue
			}
			g.Go(func() error {
				defer func() { <-tunnels }()
				if err := s.tunnel(ctx, client, m.GetOpenTunnel()); err != nil && ctx.Err() == nil {
					s.cfg.Logger.Debug("tunnel", "err", err)
				}
				return nil
			})
		}
	}
}

// tunnel carries a container's output.
func (s *Session) tunnel(ctx context.Context, client pb.AgentServiceClient, o *pb.OpenTunnel) error {
	stream, err := client.Tunnel(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&pb.TunnelRequest{TunnelId: o.GetTunnelId()}); err != nil {
		return err
	}
	last := &pb.TunnelRequest{Last: true}
	if logs := o.GetLogs(); logs != nil {
		err = s.cfg.Handler.Logs(stream.Context(), logs, func(b []byte) error { return stream.Send(&pb.TunnelRequest{Data: b}) })
	} else {
		err = errors.New("the agent is older than the control plane: it does not know this kind of tunnel")
	}
	if err != nil {
		last.Error = err.Error()
	}
	if err := stream.Send(last); err != nil {
		return err
	}
	_ = stream.CloseSend()
	_, err = stream.Recv()
	return err
}

// renew keeps the certificate fresh.
func (s *Session) renew(ctx context.Context, client pb.AgentServiceClient) error {
	for {
		wait := max(time.Second, time.Until(s.cfg.Identity.renewAt()))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		if err := s.cfg.Identity.renew(ctx, client); err != nil {
			s.cfg.Logger.Warn("renew the node certificate", "err", err)
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(time.Minute):
			}
			continue
		}
		s.cfg.Logger.Info("node certificate renewed")
	}
}
