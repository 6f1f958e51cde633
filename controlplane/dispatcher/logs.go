package dispatcher

import (
	"context"
	"errors"
	"io"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// Logs reads a container's output from its host and calls send with each piece
// until it ends. local is false when this replica does not hold the host's
// session; then nothing was sent.
func (d *Dispatcher) Logs(ctx context.Context, cluster, instance string, r *pb.LogsTunnel, send func([]byte) error) (local bool, err error) {
	t, err := d.OpenTunnel(ctx, Host{Cluster: cluster, Instance: instance},
		&pb.OpenTunnel{Request: &pb.OpenTunnel_Logs{Logs: r}})
	if errors.Is(err, ErrNoSession) {
		return false, nil
	} else if err != nil {
		return true, err
	}
	defer t.Close()
	for {
		data, err := t.Recv(ctx)
		if errors.Is(err, io.EOF) {
			return true, nil
		} else if err != nil {
			return true, err
		}
		if err := send(data); err != nil {
			return true, err
		}
	}
}
