package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/plimsoll-project/plimsoll/controlplane/leader"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// leaderOnly are the calls whose records the leader alone writes.
var leaderOnly = []string{
	pb.EcsService_RunTask_FullMethodName,
	pb.EcsService_StartTask_FullMethodName,
	pb.EcsService_StopTask_FullMethodName,
	// A task's tags stand in its record.
	pb.EcsService_TagResource_FullMethodName,
	pb.EcsService_UntagResource_FullMethodName,
}

// leaderWait is how long such a call waits for somebody to lead.
const leaderWait = 10 * time.Second

// redial is how soon a replica that could not be reached is tried again.
var redial = backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}

// term is what this replica knows of its leadership.
type term struct {
	mu    sync.Mutex
	fence *store.Fence
	since time.Time
}

func (t *term) set(f *store.Fence, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fence, t.since = f, now
}

// fences are the leader's, Unavailable if this replica does not lead.
func (t *term) fences() ([]store.Fence, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fence == nil {
		return nil, status.Error(codes.Unavailable, "this replica stopped leading: call again")
	}
	return []store.Fence{*t.fence}, nil
}

func (t *term) leads() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fence != nil
}

// peers calls other replicas, as a server.
type peers struct {
	id      string
	tls     *tls.Config
	store   store.Store
	elector *leader.Elector
	term    *term

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn
}

func (p *peers) dial(address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.conns[address]; c != nil {
		return c, nil
	}
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(p.tls)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: redial, MinConnectTimeout: 5 * time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}))
	if err != nil {
		return nil, fmt.Errorf("connect to replica %s: %w", address, err)
	}
	if p.conns == nil {
		p.conns = map[string]*grpc.ClientConn{}
	}
	p.conns[address] = c
	return c, nil
}

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
}

// Logs asks the replica for a task's logs.
func (p *peers) Logs(ctx context.Context, replica string, r *pb.GetTaskLogsRequest) (pb.AdminService_GetTaskLogsClient, error) {
	row, ok := p.store.Snapshot().Replicas().Get(replica)
	if !ok {
		return nil, status.Errorf(codes.Unavailable, "replica %s, which holds the host's session, is gone: try again", replica)
	}
	c, err := p.dial(row.Value.GetAddress())
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return pb.NewAdminServiceClient(c).GetTaskLogs(ctx, r)
}

// forward hands calls that only the leader may carry out to the leader.
func (p *peers) forward(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if !slices.Contains(leaderOnly, info.FullMethod) || p.term.leads() {
		return handler(ctx, req)
	}
	wait, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	for {
		changed := p.elector.Changed()
		l, ok := p.elector.Leader()
		switch {
		case p.term.leads():
			return handler(ctx, req)
		case ok && l.Address != "" && l.ID != p.id:
			c, err := p.dial(l.Address)
			if err != nil {
				return nil, status.Error(codes.Unavailable, err.Error())
			}
			// To a leader that cannot be reached nothing is sent: it may have died,
			// and the call waits for the next one.
			if c.GetState() == connectivity.Ready {
				answer, sent, err := p.call(ctx, c, l, info.FullMethod, req)
				if err == nil || sent || ctx.Err() != nil {
					return answer, err
				}
			}
			c.Connect()
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		case <-wait.Done():
			return nil, status.Errorf(codes.Unavailable, "no control plane replica that leads could be reached for %s: try again", leaderWait)
		}
	}
}

// call asks the leader for as long as it leads: one that hangs keeps its
// connection, and is replaced all the same. If not sent, the leader has surely
// not seen the call.
func (p *peers) call(ctx context.Context, c *grpc.ClientConn, l leader.Leader, method string, req any) (answer proto.Message, sent bool, err error) {
	answer, err = newAnswer(method)
	if err != nil {
		return nil, true, err
	}
	during, cancel := context.WithCancel(ctx)
	replaced := make(chan bool, 1)
	go func() {
		replaced <- p.replaced(during, l)
		cancel()
	}()
	var to peer.Peer // known once the call has a stream
	err = c.Invoke(during, method, req, answer, grpc.Peer(&to))
	cancel()
	if <-replaced && status.Code(err) == codes.Canceled && ctx.Err() == nil {
		err = status.Error(codes.Unavailable, "the leader was replaced before it answered, and may have done what was asked: look, and try again")
	}
	return answer, to.Addr != nil, err
}

// replaced waits until the leader is another or none, and then answers true; it
// answers false when ctx ends first.
func (p *peers) replaced(ctx context.Context, l leader.Leader) bool {
	for {
		changed := p.elector.Changed()
		if now, _ := p.elector.Leader(); now != l {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// newAnswer makes the message that a method (/package.Service/Method) answers.
func newAnswer(method string) (proto.Message, error) {
	name := protoreflect.FullName(method[1:])
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '/' {
			name = name[:i] + "." + name[i+1:]
			break
		}
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "find method %s: %v", method, err)
	}
	m, err := protoregistry.GlobalTypes.FindMessageByName(d.(protoreflect.MethodDescriptor).Output().FullName())
	if err != nil {
		return nil, status.Errorf(codes.Internal, "find the answer of %s: %v", method, err)
	}
	return m.New().Interface(), nil
}
