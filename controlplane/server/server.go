package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/plimsoll-project/plimsoll/controlplane/api"
	"github.com/plimsoll-project/plimsoll/controlplane/controller"
	"github.com/plimsoll-project/plimsoll/controlplane/decide/placement"
	"github.com/plimsoll-project/plimsoll/controlplane/dispatcher"
	"github.com/plimsoll-project/plimsoll/controlplane/iam"
	"github.com/plimsoll-project/plimsoll/controlplane/leader"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/registry"
	"github.com/plimsoll-project/plimsoll/controlplane/scheduler"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	"github.com/plimsoll-project/plimsoll/controlplane/store/etcd"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// The bounds of starting and stopping.
const (
	startTimeout = 60 * time.Second
	stopTimeout  = 10 * time.Second
)

// server is a replica under construction and then running.
type server struct {
	cfg Config
	// id is the replica's, the same after a restart; process is this process's:
	// sessions of an earlier one are over.
	id, process string
	metrics     *prometheus.Registry
	etcd        *etcdConn
	store       *etcd.Store
	tokens      iam.Tokens
	cert        *iam.ServerCertificate
	elector     *leader.Elector
	term        *term
	peers       *peers

	scheduler  *scheduler.Scheduler
	dispatcher *dispatcher.Dispatcher
	controlled *controller.Metrics
	health     *health.Server
}

// Run runs a control plane replica until ctx ends, and then ends it gracefully.
func Run(ctx context.Context, cfg Config) (err error) {
	if err := cfg.complete(); err != nil {
		return err
	}
	s := &server{cfg: cfg, metrics: prometheus.NewRegistry(), term: &term{}, health: health.NewServer()}
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	// The listeners come first: a taken port is told before anything is written.
	listeners, err := listen(cfg)
	if err != nil {
		return err
	}
	defer func() { listeners.close() }()
	lock, err := lockDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if s.id, err = replicaID(cfg.DataDir); err != nil {
		return err
	}
	s.process = s.id + "-" + randomSuffix()
	if s.etcd, err = connect(starting, cfg); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.etcd.close()) }()
	s.store, err = etcd.Open(starting, etcd.Config{Client: s.etcd.client, MaxTxnOps: s.etcd.maxTxnOps, Logger: cfg.Logger, Registerer: s.metrics})
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	defer s.store.Close()
	if err := s.trust(starting); err != nil {
		return err
	}
	if err := s.defaultCluster(starting); err != nil {
		return err
	}
	if err := s.compose(); err != nil {
		return err
	}
	return s.serve(ctx, listeners)
}

// trust loads the authority and issues this replica's and the administrator's
// certificates.
func (s *server) trust(ctx context.Context) error {
	authority, err := iam.LoadOrCreate(ctx, s.store, s.cfg.SealKeyFile, time.Now)
	if err != nil {
		return err
	}
	if s.cert, err = iam.NewServerCertificate(authority, s.id); err != nil {
		return err
	}
	s.tokens = iam.Tokens{Authority: authority, Store: s.store}
	return authority.WriteAdmin(filepath.Join(s.cfg.DataDir, "admin"))
}

// compose makes the parts and ties them together.
func (s *server) compose() error {
	cfg := s.cfg
	s.elector = leader.New(leader.Config{Client: s.etcd.client, ID: s.id, Address: cfg.Advertise, Logger: cfg.Logger})
	s.peers = &peers{id: s.id, tls: s.cert.ClientTLS(), store: s.store, elector: s.elector, term: s.term}
	s.scheduler = &scheduler.Scheduler{Store: s.store, Fences: s.term.fences, Config: placement.Config{}}
	s.dispatcher = dispatcher.New(dispatcher.Config{
		Store: s.store, Authority: authority{tokens: s.tokens}, Replica: s.process, AccountID: cfg.AccountID, Region: cfg.Region,
		RegistryHost: RegistryHost, RegistryEndpoints: cfg.RegistryAdvertise,
		Now: time.Now, Logger: cfg.Logger, Metrics: dispatcher.NewMetrics(s.metrics),
	})
	var err error
	s.controlled, err = controller.NewMetrics(s.metrics)
	return err
}

// serve runs everything until ctx ends or a part fails.
func (s *server) serve(ctx context.Context, l *listeners) error {
	g, ctx := errgroup.WithContext(ctx)
	images, err := registry.New(ctx, registry.Config{
		Dir: filepath.Join(s.cfg.DataDir, "registry"), Passwords: s.tokens, Logger: s.cfg.Logger,
	})
	if err != nil {
		return fmt.Errorf("image registry: %w", err)
	}
	calls := s.grpcServer()
	for _, lis := range l.api {
		g.Go(func() error { return calls.Serve(lis) })
	}
	httpServers := []*http.Server{}
	for _, lis := range l.registry {
		h := &http.Server{Handler: images, TLSConfig: s.cert.ServerTLS(), ReadHeaderTimeout: 30 * time.Second, ErrorLog: quiet(s.cfg.Logger)}
		httpServers = append(httpServers, h)
		g.Go(func() error { return closed(h.ServeTLS(lis, "", "")) })
	}
	if l.metrics != nil {
		h := &http.Server{Handler: s.observability(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: quiet(s.cfg.Logger)}
		httpServers = append(httpServers, h)
		g.Go(func() error { return closed(h.Serve(l.metrics)) })
	}
	g.Go(func() error { return s.announce(ctx) })
	g.Go(func() error { return s.elector.Run(ctx, s.lead) })
	g.Go(func() error { return s.embeddedEnd(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		s.stop(calls, httpServers)
		return context.Cause(ctx)
	})
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	s.cfg.Logger.Info("control plane serves", "replica", s.id, "version", s.cfg.Version,
		"api", s.cfg.Listen, "registry", s.cfg.RegistryListen, "metrics", s.cfg.MetricsListen)
	err = g.Wait()
	s.peers.close()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s *server) grpcServer() *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(s.cert.ServerTLS())),
		grpc.ChainUnaryInterceptor(iam.Unary, s.peers.forward),
		grpc.ChainStreamInterceptor(iam.Stream),
		grpc.MaxRecvMsgSize(16<<20), grpc.MaxSendMsgSize(64<<20),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 2 * time.Second, PermitWithoutStream: true}),
	)
	pb.RegisterEcsServiceServer(g, api.New(api.Config{
		Store: s.store, Scheduler: s.scheduler, Fences: s.term.fences,
		AccountID: s.cfg.AccountID, Region: s.cfg.Region, Now: time.Now, Logger: s.cfg.Logger,
	}))
	pb.RegisterAdminServiceServer(g, api.NewAdmin(api.AdminConfig{
		Store: s.store, Tokens: s.tokens, Logs: s.dispatcher, Peers: s.peers, Info: s.info,
	}))
	pb.RegisterAgentServiceServer(g, s.dispatcher)
	healthpb.RegisterHealthServer(g, s.health)
	reflection.Register(g)
	return g
}

func (s *server) info() *pb.GetInfoResponse {
	l, _ := s.elector.Leader()
	return &pb.GetInfoResponse{
		Version: s.cfg.Version, AccountId: s.cfg.AccountID, Region: s.cfg.Region,
		RegistryEndpoint: s.cfg.RegistryAdvertise[0], RegistryHost: RegistryHost, Replica: s.id, Leader: l.ID,
	}
}

// announce keeps this replica's record. Without it, its sessions do not count.
func (s *server) announce(ctx context.Context) error {
	k := etcd.EphemeralKeeper{Client: s.etcd.client, Logger: s.cfg.Logger}
	return k.Keep(ctx, model.Key{Kind: model.KindReplica, ID: s.process},
		&pb.ReplicaRecord{Id: s.process, Address: s.cfg.Advertise, Version: s.cfg.Version, RegistryEndpoints: s.cfg.RegistryAdvertise}, etcd.DefaultTTL, nil)
}

// embeddedEnd fails when the embedded etcd ends by itself.
func (s *server) embeddedEnd(ctx context.Context) error {
	if s.etcd.embedded == nil {
		return nil
	}
	select {
	case <-s.etcd.embedded.Done():
		return errors.New("the embedded etcd ended: its log line above says why")
	case <-ctx.Done():
		return nil
	}
}

// stop ends what serves: hosts and clients are told to go elsewhere first.
func (s *server) stop(calls *grpc.Server, https []*http.Server) {
	s.cfg.Logger.Info("control plane stops", "replica", s.id)
	s.health.Shutdown()
	s.dispatcher.Close()
	done := make(chan struct{})
	go func() { defer close(done); calls.GracefulStop() }()
	select {
	case <-done:
	case <-time.After(stopTimeout):
		calls.Stop()
		<-done
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for _, h := range https {
		if err := h.Shutdown(ctx); err != nil {
			h.Close()
		}
	}
}

func closed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// defaultCluster makes the cluster "default" in an empty store.
func (s *server) defaultCluster(ctx context.Context) error {
	if s.store.Snapshot().Clusters().Len() > 0 {
		return nil
	}
	name := "default"
	rev, err := s.store.Commit(ctx, model.Batch{{
		Key: model.Key{Kind: model.KindCluster, ID: name},
		Value: &pb.ClusterRecord{Cluster: &pb.Cluster{ClusterName: name, Status: "ACTIVE",
			ClusterArn: "arn:aws:ecs:" + s.cfg.Region + ":" + s.cfg.AccountID + ":cluster/" + name}},
	}})
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create cluster %s: %w", name, err)
	}
	_, err = s.store.After(ctx, rev)
	return err
}

// lockDir takes the data directory for this process, until the file is closed.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("--data-dir %s is in use: another plimd runs with it; end that one, or name another directory", dir)
		}
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	return f, nil
}

// replicaID is this replica's id, kept in its data directory.
func replicaID(dir string) (string, error) {
	file := filepath.Join(dir, "replica-id")
	b, err := os.ReadFile(file)
	if id := strings.TrimSpace(string(b)); err == nil && id != "" {
		return id, nil
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "replica"
	}
	id := host + "-" + randomSuffix()
	if err := os.WriteFile(file, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("--data-dir: %w", err)
	}
	return id, nil
}
