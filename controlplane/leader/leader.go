package leader

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/plimsoll-project/plimsoll/controlplane/store"
)

// KeyPrefix is where the election's keys are in etcd. It is outside of the
// store's records.
const KeyPrefix = "/plimsoll-leader"

// DefaultTTL is how long a leader that died, and does not come back, is waited
// for.
const DefaultTTL = 5 * time.Second

// The pause between terms that end with an error, growing from the first to the
// second; a term that lasted longer than the second sets it back.
const (
	backoffFirst = 100 * time.Millisecond
	backoffLast  = 5 * time.Second
)

// Config is what an Elector needs. Client and ID are required.
type Config struct {
	Client *clientv3.Client
	// ID is this replica's, the same after a restart and no other's.
	ID string
	// Address is where the others reach it while it leads, host:port.
	Address string
	// TTL is rounded up to whole seconds; etcd has a lower bound of its own
	// (some of its election timeouts). DefaultTTL if zero.
	TTL    time.Duration
	Logger *slog.Logger // none logs nothing
}

// Leader is who leads.
type Leader struct {
	ID      string `json:"id"`
	Address string `json:"address"`
}

// Elector is this replica's part in the election. New makes one; its methods
// beside Run are safe for concurrent use.
type Elector struct {
	cfg Config

	mu      sync.Mutex
	leader  Leader
	changed chan struct{} // closed when leader changes
}

// New makes an Elector.
func New(cfg Config) *Elector {
	if cfg.TTL <= 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Elector{cfg: cfg, changed: make(chan struct{})}
}

// Run makes an Elector and runs it.
func Run(ctx context.Context, cfg Config, lead func(ctx context.Context, fence store.Fence) error) error {
	return New(cfg).Run(ctx, lead)
}

// Run campaigns until ctx ends, and calls lead for each term that this replica
// wins. lead's context ends when the term does, because ctx ended or because
// leadership was lost; a term ends, too, when lead returns. After a term the
// replica campaigns again, after a pause that grows while lead fails. At the end
// it gives leadership up, so that another one need not wait. Its error is nil
// unless the configuration is wrong.
func (e *Elector) Run(ctx context.Context, lead func(ctx context.Context, fence store.Fence) error) error {
	if e.cfg.Client == nil || e.cfg.ID == "" {
		return errors.New("run the election: a client and the replica's id are required")
	}
	var observing sync.WaitGroup
	observing.Go(func() { e.observe(ctx) })
	defer observing.Wait()
	pause := backoffFirst
	superseded := false
	for ctx.Err() == nil {
		began := time.Now()
		err := e.term(ctx, &superseded, lead)
		if ctx.Err() != nil {
			break
		}
		e.cfg.Logger.Warn("the term or the campaign ended", "replica", e.cfg.ID, "err", err)
		if time.Since(began) > backoffLast {
			pause = backoffFirst
		}
		wait(ctx, pause)
		pause = min(2*pause, backoffLast)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
