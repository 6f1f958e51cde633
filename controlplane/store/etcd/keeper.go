package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
)

// DefaultTTL is how long an ephemeral record outlives a process that died.
const DefaultTTL = 5 * time.Second

// EphemeralKeeper keeps records that go with their process. It runs no
// goroutine of its own beside the client's keep-alive.
type EphemeralKeeper struct {
	Client *clientv3.Client
	Logger *slog.Logger // none logs nothing
}

// Keep puts the record under a lease of that time to live (whole seconds,
// rounded up; DefaultTTL if zero), keeps it alive, and puts it again whenever
// the lease is lost or somebody else changed or deleted the record. It replaces
// a record of the same key that an earlier process left. kept, if not nil, is
// called with the revision of each put.
//
// Keep returns when ctx ends, after it deleted the record; failures in between
// are tried again. Its error says that the batch could never be written
// (ErrInvalid), or that the record could not be deleted and goes with its
// lease.
func (k *EphemeralKeeper) Keep(ctx context.Context, key model.Key, value proto.Message, ttl time.Duration, kept func(revision int64)) error {
	if err := store.Check(model.Batch{{Key: key, Value: value}}); err != nil {
		return err
	}
	data, err := proto.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w: %w", key, err, store.ErrInvalid)
	}
	setDefault(&ttl, DefaultTTL)
	log := k.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	pause := retryFirst
	for {
		began := time.Now()
		err := k.hold(ctx, key.String(), string(data), ttl, kept)
		if ctx.Err() != nil {
			return err
		}
		log.Warn("an ephemeral record was lost and is put again", "key", key.String(), "err", err)
		if time.Since(began) > ttl {
			pause = retryFirst
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		pause = min(2*pause, retryLast)
	}
}

var errChanged = errors.New("somebody else changed the record")

// hold puts the record under a new lease and holds it until the lease or the
// record is lost or ctx ends; then it revokes the lease, and the record with it.
func (k *EphemeralKeeper) hold(ctx context.Context, key, data string, ttl time.Duration, kept func(int64)) (err error) {
	lease, err := k.Client.Grant(ctx, int64(math.Ceil(ttl.Seconds())))
	if err != nil {
		return fmt.Errorf("grant a lease: %w", err)
	}
	held, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		clean, done := context.WithTimeout(context.WithoutCancel(ctx), ttl)
		defer done()
		if _, e := k.Client.Revoke(clean, lease.ID); e != nil && (err == nil || ctx.Err() != nil) {
			err = fmt.Errorf("delete %s: revoke its lease: %w", key, e)
		} else if ctx.Err() != nil {
			err = nil
		}
	}()
	alive, err := k.Client.KeepAlive(held, lease.ID)
	if err != nil {
		return fmt.Errorf("keep the lease alive: %w", err)
	}
	put, err := k.Client.Put(held, key, data, clientv3.WithLease(lease.ID))
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	if kept != nil {
		kept(put.Header.Revision)
	}
	changes := k.Client.Watch(held, key, clientv3.WithRev(put.Header.Revision+1))
	for {
		select {
		case _, ok := <-alive:
			if !ok {
				return errors.New("the lease is lost")
			}
		case resp, ok := <-changes:
			if !ok || resp.Err() != nil || len(resp.Events) > 0 {
				return errors.Join(errChanged, resp.Err())
			}
		}
	}
}
