package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	"github.com/plimsoll-project/plimsoll/controlplane/store/feed"
)

// Config is what a Store needs. Client is required; zero values of the others
// take the defaults named.
type Config struct {
	Client *clientv3.Client
	// MaxTxnOps is the server's max-txn-ops: the writes, and likewise the
	// conditions, of one transaction. 128, etcd's default.
	MaxTxnOps int
	// MaxTxnBytes is how large batches that share a transaction may be together;
	// a single batch may be larger, up to the server's bound. 1 MiB.
	MaxTxnBytes int
	// MaxInFlight is how many transactions are under way at once. 2.
	MaxInFlight int
	// MaxPending is how many batches may wait; Commit blocks beyond it. 8192.
	MaxPending int
	// TxnTimeout is how long a transaction may take before its batches fail
	// with ErrUnavailable. 10 s.
	TxnTimeout time.Duration
	Logger     *slog.Logger          // none logs nothing
	Registerer prometheus.Registerer // none exports nothing
}

func (c Config) withDefaults() Config {
	setDefault(&c.MaxTxnOps, 128)
	setDefault(&c.MaxTxnBytes, 1<<20)
	setDefault(&c.MaxInFlight, 2)
	setDefault(&c.MaxPending, 8192)
	setDefault(&c.TxnTimeout, 10*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Store is a store.Store over etcd. Open makes one.
type Store struct {
	*feed.Feed
	cfg       Config
	metrics   *metrics
	committer *committer
	progress  func() error // asks the watch how far it is
	stop      context.CancelFunc
	watching  sync.WaitGroup
}

var _ store.Store = (*Store)(nil)

var errClosed = fmt.Errorf("the store is closed: %w", store.ErrUnavailable)

// Open loads the store and begins to follow it. ctx bounds the loading alone;
// Close ends the rest. The client stays the caller's, and must outlive the
// Store.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register the store's metrics: %w", err)
	}
	s := &Store{cfg: cfg, metrics: m}
	first, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	m.revision.Set(float64(first.Revision))
	s.Feed = feed.New(first)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.committer = newCommitter(run, cfg, m)
	watch := clientv3.WithRequireLeader(run)
	s.progress = func() error { return cfg.Client.RequestProgress(watch) }
	s.watching.Go(func() { s.follow(watch) })
	return s, nil
}

// Close ends the watch and the commits under way, which fail with
// ErrUnavailable, and waits for both.
func (s *Store) Close() {
	s.stop()
	s.committer.close()
	s.watching.Wait()
	s.Feed.Close(errClosed)
}

// Commit is store.Store's. When its error is ErrUnavailable or the context's,
// the batch may have been written or not.
func (s *Store) Commit(ctx context.Context, batch model.Batch, fences ...store.Fence) (int64, error) {
	if len(batch) == 0 && len(fences) == 0 {
		return s.Snapshot().Revision, ctx.Err()
	}
	r, err := newRequest(batch, fences)
	if err != nil {
		return 0, err
	}
	if n := len(batch) + len(fences); n > s.cfg.MaxTxnOps {
		return 0, fmt.Errorf("commit %d operations, %d at most: %w", n, s.cfg.MaxTxnOps, store.ErrTooLarge)
	}
	return s.committer.commit(ctx, r)
}

// progressEvery is how long a waiter waits before it has the watch asked how
// far it is: the revision waited for may be one that changed no record.
const progressEvery = 50 * time.Millisecond

// After is store.Store's. It fails with the context's error, or with
// ErrUnavailable once the Store is closed.
func (s *Store) After(ctx context.Context, revision int64) (*model.Snapshot, error) {
	for wait := progressEvery; ; wait = min(2*wait, time.Second) {
		slice, cancel := context.WithTimeout(ctx, wait)
		snap, err := s.Feed.After(slice, revision)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			if err != nil && ctx.Err() != nil {
				err = ctx.Err()
			}
			return snap, err
		}
		if err := s.progress(); err != nil {
			s.cfg.Logger.Debug("the watch's progress could not be asked for", "err", err)
		}
	}
}
