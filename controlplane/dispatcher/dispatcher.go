package dispatcher

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
	"github.com/plimsoll-project/plimsoll/proto/taskstate"
)

// Host is a host's identity: its cluster and its container instance's id.
type Host struct {
	Cluster  string
	Instance string
}

// Authority admits hosts.
type Authority interface {
	// Join checks the join token, takes one of its uses, and answers the
	// certificate (DER) of a new host of the token's cluster. The instance's id
	// is the one given. Errors are gRPC statuses.
	Join(ctx context.Context, token, cluster, instance string, request []byte) (Certificate, error)
	// Renew answers a new certificate for a host that has one.
	Renew(host Host, request []byte) (Certificate, error)
	// Host is who calls, from the call's TLS identity; false if it is no host.
	Host(ctx context.Context) (Host, bool)
}

// Certificate is a host's identity as DER certificates.
type Certificate struct {
	Certificate []byte
	Authorities [][]byte
	Cluster     string
}

// Config is what a Dispatcher needs.
type Config struct {
	Store     store.Store
	Authority Authority
	// Replica is this replica's id, as in its ReplicaRecord.
	Replica string
	// AccountID and Region are the ARNs' parts.
	AccountID, Region string
	// RegistryHost and RegistryEndpoints, this replica's, go into Welcome with the
	// other replicas' endpoints.
	RegistryHost      string
	RegistryEndpoints []string
	// Heartbeat is how often hosts say that they are alive; a session that was
	// silent for three of them is ended. 5 s when zero.
	Heartbeat time.Duration
	Now       func() time.Time
	Logger    *slog.Logger
	Metrics   *Metrics
}

// Dispatcher implements AgentService.
type Dispatcher struct {
	pb.UnimplementedAgentServiceServer
	cfg Config

	mu       sync.Mutex
	sessions map[Host]*session
	tunnels  map[string]*Tunnel
	closed   bool

	stopWatching func()
}

// New makes a Dispatcher. Close ends it.
func New(cfg Config) *Dispatcher {
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = 5 * time.Second
	}
	d := &Dispatcher{cfg: cfg, sessions: map[Host]*session{}, tunnels: map[string]*Tunnel{}}
	d.stopWatching = cfg.Store.OnChange(d.changed)
	return d
}

// Close ends every session, and admits no more. The hosts' session records
// stay: the replica's own record says that they are over.
func (d *Dispatcher) Close() {
	d.stopWatching()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, s := range d.sessions {
		s.end(status.Error(codes.Unavailable, "the control plane replica is shutting down: connect to another one, or again"))
	}
}

// changed marks the sessions whose assignments the changes touch.
func (d *Dispatcher) changed(now *model.Snapshot, changes []model.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range changes {
		if c.Key.Kind == model.KindReplica {
			// Hosts pull from all replicas' registries.
			for _, s := range d.sessions {
				s.wake()
			}
			continue
		}
		host := Host{Cluster: c.Key.Cluster}
		switch v := c.Value.(type) {
		case *pb.TaskRecord:
			host.Instance = v.GetInstance()
		case *pb.TaskStatusRecord:
			if taskstate.Parse(v.GetLastStatus()) != taskstate.Stopped {
				continue
			}
			if t, ok := now.Task(c.Key.Cluster, c.Key.ID); ok {
				host.Instance = t.Record.GetInstance()
			}
		case *pb.SessionRecord:
			host.Instance = v.GetInstance()
			if s := d.sessions[host]; s != nil && v.GetEpoch() > s.epoch {
				s.end(errTakenOver)
			}
			continue
		case *pb.ContainerInstanceStateRecord:
			host.Instance = v.GetInstance()
			if s := d.sessions[host]; s != nil && v.GetStatus() == model.InstanceInactive {
				s.end(errDeregistered)
			}
			continue
		}
		if s := d.sessions[host]; s != nil {
			s.wake()
		}
	}
}

var errTakenOver = status.Error(codes.Aborted, "a newer session of this host took over")

var errDeregistered = status.Error(codes.FailedPrecondition,
	"the container instance was deregistered: remove the agent's data directory and join again with a new token")

// Join admits a host.
func (d *Dispatcher) Join(ctx context.Context, r *pb.JoinRequest) (*pb.JoinResponse, error) {
	id := newID()
	c, err := d.cfg.Authority.Join(ctx, r.GetToken(), r.GetCluster(), id, r.GetCertificateRequest())
	if err != nil {
		return nil, err
	}
	d.cfg.Logger.Info("host joined", "cluster", c.Cluster, "instance", id)
	return &pb.JoinResponse{
		Certificate: c.Certificate, Authorities: c.Authorities, Cluster: c.Cluster, Instance: id,
		ContainerInstanceArn: d.instanceARN(Host{Cluster: c.Cluster, Instance: id}),
	}, nil
}

// RenewCertificate renews the calling host's certificate.
func (d *Dispatcher) RenewCertificate(ctx context.Context, r *pb.RenewCertificateRequest) (*pb.RenewCertificateResponse, error) {
	host, err := d.host(ctx)
	if err != nil {
		return nil, err
	}
	if i, ok := d.cfg.Store.Snapshot().Instance(host.Cluster, host.Instance); ok && i.Status() == model.InstanceInactive {
		return nil, errDeregistered
	}
	c, err := d.cfg.Authority.Renew(host, r.GetCertificateRequest())
	if err != nil {
		return nil, err
	}
	return &pb.RenewCertificateResponse{Certificate: c.Certificate, Authorities: c.Authorities}, nil
}

func (d *Dispatcher) host(ctx context.Context) (Host, error) {
	h, ok := d.cfg.Authority.Host(ctx)
	if !ok {
		return Host{}, status.Error(codes.PermissionDenied, "only a host with its node certificate may call this: join first")
	}
	return h, nil
}

func (d *Dispatcher) instanceARN(h Host) string {
	return "arn:aws:ecs:" + d.cfg.Region + ":" + d.cfg.AccountID + ":container-instance/" + h.Cluster + "/" + h.Instance
}

// Sessions is the number of sessions held.
func (d *Dispatcher) Sessions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sessions)
}
