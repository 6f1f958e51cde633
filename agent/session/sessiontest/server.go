package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// Patience is how long the Await functions wait.
const Patience = 20 * time.Second

// Server is the control plane.
type Server struct {
	pb.UnimplementedAgentServiceServer
	t         testing.TB
	authority *authority
	// Address is host:port, Token the token with which hosts join.
	Address, Token string
	// Life is node certificates' life, an hour by default. It is set before the
	// server is used.
	Life time.Duration

	grpc *grpc.Server

	mu       sync.Mutex
	joined   int
	renewed  int
	revision int64
	assigned map[string]*pb.Assignment
	reported map[string]*pb.TaskStatusRecord
	batches  int
	mute     bool // batches are neither stored nor acknowledged
	deaf     bool // batches are stored and not acknowledged
	gap      bool // the next set does not follow the last
	hellos   []*pb.Hello
	changed  chan struct{} // closed at every change
	sessions map[*stream]struct{}
	tunnels  map[string]chan *pb.TunnelRequest
}

// stream is one session.
type stream struct {
	control chan *pb.SessionResponse
	cancel  context.CancelCauseFunc
}

// New starts a control plane that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, authority: newAuthority(t), Life: time.Hour, assigned: map[string]*pb.Assignment{}, reported: map[string]*pb.TaskStatusRecord{},
		changed: make(chan struct{}), sessions: map[*stream]struct{}{}, tunnels: map[string]chan *pb.TunnelRequest{}, revision: 1}
	s.Token = s.authority.token()
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start listens, after Stop at the same address.
func (s *Server) Start() {
	s.t.Helper()
	address := s.Address
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Address = l.Addr().String()
	s.grpc = grpc.NewServer(grpc.Creds(credentials.NewTLS(s.authority.serverTLS(s.t))))
	pb.RegisterAgentServiceServer(s.grpc, s)
	go func(g *grpc.Server) { _ = g.Serve(l) }(s.grpc)
}

// Stop ends the server and every connection.
func (s *Server) Stop() { s.grpc.Stop() }

// Assign changes what the host has to run.
func (s *Server) Assign(all ...*pb.Assignment) {
	s.change(func() {
		for _, a := range all {
			s.assigned[a.GetTaskId()] = a
		}
	})
}

// Remove takes tasks away from the host.
func (s *Server) Remove(tasks ...string) {
	s.change(func() {
		for _, id := range tasks {
			delete(s.assigned, id)
		}
	})
}

// Mute loses the batches that come; Deaf stores them and loses the
// acknowledgements.
func (s *Server) Mute(on bool) { s.change(func() { s.mute = on }) }

// Deaf is described at Mute.
func (s *Server) Deaf(on bool) { s.change(func() { s.deaf = on }) }

// Gap makes the next set follow one that was never sent.
func (s *Server) Gap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gap = true
}

// Break ends every session.
func (s *Server) Break() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions {
		c.cancel(status.Error(codes.Unavailable, "broken by the test"))
	}
}

func (s *Server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision++
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// State is what a test looks at.
type State struct {
	Joined, Renewed, Batches, Sessions int
	Hellos                             []*pb.Hello
	// Reported are the stored statuses by task.
	Reported map[string]*pb.TaskStatusRecord
}

// Await waits until the state is as ok wants it, and fails the test otherwise.
func (s *Server) Await(what string, ok func(State) bool) {
	s.t.Helper()
	limit := time.After(Patience)
	for {
		s.mu.Lock()
		state := State{s.joined, s.renewed, s.batches, len(s.sessions), slices.Clone(s.hellos), maps.Clone(s.reported)}
		changed := s.changed
		s.mu.Unlock()
		if ok(state) {
			return
		}
		select {
		case <-changed:
		case <-limit:
			s.t.Fatalf("%s did not come within %s: %+v", what, Patience, state)
		}
	}
}

// AwaitStatus waits until a task's lastStatus is as given, and answers it.
func (s *Server) AwaitStatus(task, last string) *pb.TaskStatusRecord {
	s.t.Helper()
	var found *pb.TaskStatusRecord
	s.Await(fmt.Sprintf("task %s in status %s", task, last), func(st State) bool {
		found = st.Reported[task]
		return found.GetLastStatus() == last
	})
	return found
}

// Join implements AgentService.
func (s *Server) Join(_ context.Context, r *pb.JoinRequest) (*pb.JoinResponse, error) {
	if r.GetToken() != s.Token {
		return nil, status.Error(codes.Unauthenticated, "the join token is unknown")
	}
	instance := fmt.Sprintf("%032x", 1)
	cert, err := s.authority.node(r.GetCertificateRequest(), instance, s.Life)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	s.change(func() { s.joined++ })
	return &pb.JoinResponse{Certificate: cert, Authorities: [][]byte{s.authority.cert.Raw}, Cluster: "default", Instance: instance}, nil
}

// RenewCertificate implements AgentService.
func (s *Server) RenewCertificate(ctx context.Context, r *pb.RenewCertificateRequest) (*pb.RenewCertificateResponse, error) {
	if err := node(ctx); err != nil {
		return nil, err
	}
	cert, err := s.authority.node(r.GetCertificateRequest(), fmt.Sprintf("%032x", 1), s.Life)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	s.change(func() { s.renewed++ })
	return &pb.RenewCertificateResponse{Certificate: cert, Authorities: [][]byte{s.authority.cert.Raw}}, nil
}

// Session implements AgentService.
func (s *Server) Session(rpc pb.AgentService_SessionServer) error {
	if err := node(rpc.Context()); err != nil {
		return err
	}
	first, err := rpc.Recv()
	if err != nil {
		return err
	}
	if first.GetHello() == nil {
		return status.Error(codes.InvalidArgument, "no Hello")
	}
	ctx, cancel := context.WithCancelCause(rpc.Context())
	defer cancel(nil)
	c := &stream{control: make(chan *pb.SessionResponse, 64), cancel: cancel}
	s.change(func() { s.sessions[c] = struct{}{}; s.hellos = append(s.hellos, first.GetHello()) })
	defer s.change(func() { delete(s.sessions, c) })
	if err := rpc.Send(&pb.SessionResponse{Message: &pb.SessionResponse_Welcome{Welcome: &pb.Welcome{HeartbeatSeconds: 1, Epoch: 1}}}); err != nil {
		return err
	}
	go s.receive(rpc, c)
	sent, base := map[string]*pb.Assignment{}, int64(0)
	for {
		s.mu.Lock()
		set := s.set(sent, base)
		if set != nil {
			sent, base = maps.Clone(s.assigned), set.GetRevision()
		}
		changed := s.changed
		s.mu.Unlock()
		if set != nil {
			if err := rpc.Send(&pb.SessionResponse{Message: &pb.SessionResponse_Assignments{Assignments: set}}); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case m := <-c.control:
			if err := rpc.Send(m); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// set is what the session does not know; s.mu is held.
func (s *Server) set(sent map[string]*pb.Assignment, base int64) *pb.Assignments {
	a := &pb.Assignments{Type: pb.Assignments_TYPE_INCREMENTAL, Revision: s.revision, BaseRevision: base}
	if base == 0 {
		a.Type = pb.Assignments_TYPE_COMPLETE
	}
	for _, id := range slices.Sorted(maps.Keys(s.assigned)) {
		if !proto.Equal(sent[id], s.assigned[id]) {
			a.Updates = append(a.Updates, s.assigned[id])
		}
	}
	for id := range sent {
		if s.assigned[id] == nil {
			a.Removes = append(a.Removes, id)
		}
	}
	if base != 0 && len(a.Updates)+len(a.Removes) == 0 {
		return nil
	}
	if s.gap && base != 0 {
		s.gap = false
		a.BaseRevision--
	}
	return a
}

func (s *Server) receive(rpc pb.AgentService_SessionServer, c *stream) {
	for {
		m, err := rpc.Recv()
		if err != nil {
			c.cancel(err)
			return
		}
		b := m.GetStatuses()
		if b == nil {
			continue
		}
		ack := &pb.StatusAck{Sequence: b.GetSequence()}
		answer := false
		s.change(func() {
			s.batches++
			if s.mute {
				return
			}
			answer = !s.deaf
			for _, r := range b.GetStatuses() {
				if r.GetVersion() <= s.reported[r.GetTask()].GetVersion() {
					ack.Rejected = append(ack.Rejected, r.GetTask())
					continue
				}
				s.reported[r.GetTask()] = r
				if r.GetLastStatus() == "STOPPED" {
					delete(s.assigned, r.GetTask())
				}
			}
		})
		if answer {
			c.control <- &pb.SessionResponse{Message: &pb.SessionResponse_Ack{Ack: ack}}
		}
	}
}

// Logs asks the host for a container's output and reads it to its end.
func (s *Server) Logs(id string, r *pb.LogsTunnel) (string, error) {
	ch := make(chan *pb.TunnelRequest, 64)
	s.mu.Lock()
	s.tunnels[id] = ch
	for c := range s.sessions {
		c.control <- &pb.SessionResponse{Message: &pb.SessionResponse_OpenTunnel{OpenTunnel: &pb.OpenTunnel{
			TunnelId: id, Request: &pb.OpenTunnel_Logs{Logs: r}}}}
	}
	s.mu.Unlock()
	limit := time.After(Patience)
	var data []byte
	for {
		select {
		case m := <-ch:
			data = append(data, m.GetData()...)
			switch {
			case m.GetError() != "":
				return string(data), errors.New(m.GetError())
			case m.GetLast():
				return string(data), nil
			}
		case <-limit:
			return string(data), errors.New("the tunnel did not end")
		}
	}
}

// Tunnel implements AgentService.
func (s *Server) Tunnel(rpc pb.AgentService_TunnelServer) error {
	first, err := rpc.Recv()
	if err != nil {
		return err
	}
	s.mu.Lock()
	ch := s.tunnels[first.GetTunnelId()]
	s.mu.Unlock()
	if ch == nil {
		return status.Error(codes.NotFound, "no such tunnel")
	}
	for {
		m, err := rpc.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		ch <- m
	}
}

// node says whether the caller showed a node certificate.
func node(ctx context.Context) error {
	p, _ := peer.FromContext(ctx)
	if info, ok := p.AuthInfo.(credentials.TLSInfo); !ok || len(info.State.VerifiedChains) == 0 {
		return status.Error(codes.PermissionDenied, "no node certificate")
	}
	return nil
}
