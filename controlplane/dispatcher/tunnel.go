package dispatcher

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// tunnelTimeout is how long a host has to call back.
const tunnelTimeout = 10 * time.Second

// ErrNoSession says that the host's session is not held here.
var ErrNoSession = status.Error(codes.Unavailable, "the container instance is not connected: its agent is down or cannot reach the control plane")

// Tunnel is a byte stream from a host, opened by OpenTunnel.
type Tunnel struct {
	host   Host
	data   chan *pb.TunnelRequest
	joined chan struct{}
	done   chan struct{}
}

// OpenTunnel asks the host for a tunnel and waits until it is there. The caller
// reads it with Recv and must Close it. It fails with ErrNoSession when the
// host's session is not held by this replica.
func (d *Dispatcher) OpenTunnel(ctx context.Context, host Host, open *pb.OpenTunnel) (*Tunnel, error) {
	t := &Tunnel{host: host, data: make(chan *pb.TunnelRequest, 16), joined: make(chan struct{}), done: make(chan struct{})}
	open.TunnelId = newID()
	d.mu.Lock()
	s := d.sessions[host]
	if s != nil {
		d.tunnels[open.TunnelId] = t
	}
	d.mu.Unlock()
	if s == nil {
		return nil, ErrNoSession
	}
	defer func() {
		d.mu.Lock()
		delete(d.tunnels, open.TunnelId)
		d.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, tunnelTimeout)
	defer cancel()
	if err := s.say(ctx, &pb.SessionResponse{Message: &pb.SessionResponse_OpenTunnel{OpenTunnel: open}}); err != nil {
		t.Close()
		return nil, err
	}
	select {
	case <-t.joined:
		return t, nil
	case <-ctx.Done():
		t.Close()
		return nil, status.Errorf(codes.Unavailable, "the host did not open the tunnel: %v", ctx.Err())
	}
}

// Recv answers the next piece of data, io.EOF after the last, or what the host
// said went wrong.
func (t *Tunnel) Recv(ctx context.Context) ([]byte, error) {
	select {
	case m, ok := <-t.data:
		switch {
		case !ok:
			return nil, status.Error(codes.Unavailable, "the tunnel to the host broke: try again")
		case m.GetError() != "":
			return nil, status.Error(codes.FailedPrecondition, m.GetError())
		case m.GetLast() && len(m.GetData()) == 0:
			return nil, io.EOF
		}
		return m.GetData(), nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// Close ends the tunnel; the host's call ends with it. It is called once.
func (t *Tunnel) Close() { close(t.done) }

// Tunnel carries one tunnel's data.
func (d *Dispatcher) Tunnel(stream pb.AgentService_TunnelServer) error {
	host, err := d.host(stream.Context())
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	d.mu.Lock()
	t := d.tunnels[first.GetTunnelId()]
	if t != nil && t.host == host {
		delete(d.tunnels, first.GetTunnelId())
	}
	d.mu.Unlock()
	if t == nil || t.host != host {
		return status.Error(codes.NotFound, "no such tunnel")
	}
	close(t.joined)
	received := make(chan error, 1)
	go func() { received <- t.pump(stream, first) }()
	select {
	case err := <-received:
		return err
	case <-t.done:
		return nil
	}
}

// pump hands the stream's messages on until it or the tunnel ends.
func (t *Tunnel) pump(stream pb.AgentService_TunnelServer, m *pb.TunnelRequest) error {
	defer close(t.data)
	for {
		if len(m.GetData()) > 0 || m.GetLast() || m.GetError() != "" {
			select {
			case t.data <- m:
			case <-t.done:
				return nil
			}
		}
		if m.GetLast() {
			<-t.done
			return nil
		}
		var err error
		if m, err = stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// newID is 32 random hexadecimal digits.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
