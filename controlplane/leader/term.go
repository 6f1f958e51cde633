package leader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/plimsoll-project/plimsoll/controlplane/store"
)

// candidate is this replica's key in the election.
type candidate struct {
	client  *clientv3.Client
	key     string
	created int64
}

var (
	errLease = errors.New("the candidate's lease is lost")
	errKey   = errors.New("the candidate's key was taken away")
)

// term campaigns, and leads when it won. superseded says whether what an
// earlier process left was deleted already: only a process that starts takes
// over from another one of its id, so that two do not depose each other in
// turns.
func (e *Elector) term(ctx context.Context, superseded *bool, lead func(context.Context, store.Fence) error) (err error) {
	if !*superseded {
		if err := e.supersede(ctx); err != nil {
			return err
		}
		*superseded = true
	}
	lease, err := e.cfg.Client.Grant(ctx, int64(math.Ceil(e.cfg.TTL.Seconds())))
	if err != nil {
		return fmt.Errorf("grant the candidate's lease: %w", err)
	}
	var guards sync.WaitGroup
	// The lease stays alive while lead finishes, though ctx has ended.
	alive, expire := context.WithCancel(context.WithoutCancel(ctx))
	term, stop := context.WithCancelCause(ctx)
	defer func() {
		stop(nil)
		expire()
		guards.Wait()
		// Revoking the lease deletes the key: whoever is next leads at once.
		clean, done := context.WithTimeout(context.WithoutCancel(ctx), e.cfg.TTL)
		defer done()
		if _, e := e.cfg.Client.Revoke(clean, lease.ID); e != nil {
			err = errors.Join(err, fmt.Errorf("give the candidate's lease up: %w", e))
		}
	}()
	beats, err := e.cfg.Client.KeepAlive(alive, lease.ID)
	if err != nil {
		return fmt.Errorf("keep the candidate's lease: %w", err)
	}
	guards.Go(func() {
		for range beats {
		}
		stop(errLease)
	})
	c, err := e.stand(term, lease.ID)
	if err != nil {
		return err
	}
	guards.Go(func() { c.guard(term, stop) })
	if err := c.awaitTurn(term); err != nil {
		return fmt.Errorf("campaign: %w", errors.Join(err, context.Cause(term)))
	}
	e.cfg.Logger.Info("this replica leads", "replica", e.cfg.ID, "revision", c.created)
	err = lead(term, store.Fence{Key: c.key, Created: c.created})
	if ctx.Err() == nil {
		err = errors.Join(context.Cause(term), err)
	}
	e.cfg.Logger.Info("this replica leads no more", "replica", e.cfg.ID, "revision", c.created, "err", err)
	return err
}

// stand puts the candidate's key.
func (e *Elector) stand(ctx context.Context, lease clientv3.LeaseID) (*candidate, error) {
	value, err := json.Marshal(Leader{ID: e.cfg.ID, Address: e.cfg.Address})
	if err != nil {
		return nil, fmt.Errorf("encode the candidate: %w", err)
	}
	key := fmt.Sprintf("%s/%016x", KeyPrefix, int64(lease))
	resp, err := e.cfg.Client.Put(ctx, key, string(value), clientv3.WithLease(lease))
	if err != nil {
		return nil, fmt.Errorf("put the candidate: %w", err)
	}
	return &candidate{client: e.cfg.Client, key: key, created: resp.Header.Revision}, nil
}

// awaitTurn waits until no older candidate is left.
func (c *candidate) awaitTurn(ctx context.Context) error {
	for {
		older := append(clientv3.WithLastCreate(), clientv3.WithMaxCreateRev(c.created-1))
		resp, err := c.client.Get(ctx, KeyPrefix+"/", older...)
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 {
			return ctx.Err()
		}
		if _, err := c.awaitDeletion(ctx, string(resp.Kvs[0].Key), resp.Header.Revision+1); err != nil {
			return err
		}
	}
}

// awaitDeletion watches a key until it is deleted. Not deleted and no error
// says that the watch ended, and to look again.
func (c *candidate) awaitDeletion(ctx context.Context, key string, from int64) (deleted bool, err error) {
	watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for resp := range c.client.Watch(watching, key, clientv3.WithRev(from)) {
		for _, ev := range resp.Events {
			if ev.Type == clientv3.EventTypeDelete {
				return true, nil
			}
		}
	}
	wait(ctx, backoffFirst)
	return false, ctx.Err()
}

// guard ends the term when its key is gone: a newer process of this replica's
// id deletes it. While etcd does not answer, the lease and the fence decide.
func (c *candidate) guard(ctx context.Context, stop context.CancelCauseFunc) {
	for ctx.Err() == nil {
		resp, err := c.client.Get(ctx, c.key)
		if err != nil {
			wait(ctx, backoffFirst)
			continue
		}
		gone := len(resp.Kvs) == 0 || resp.Kvs[0].CreateRevision != c.created
		if !gone {
			gone, _ = c.awaitDeletion(ctx, c.key, resp.Header.Revision+1)
		}
		if gone {
			stop(errKey)
		}
	}
}

// supersede deletes the candidates that an earlier process of this id left.
func (e *Elector) supersede(ctx context.Context) error {
	resp, err := e.cfg.Client.Get(ctx, KeyPrefix+"/", clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("read the candidates: %w", err)
	}
	for _, kv := range resp.Kvs {
		var c Leader
		if json.Unmarshal(kv.Value, &c) != nil || c.ID != e.cfg.ID {
			continue
		}
		key := string(kv.Key)
		_, err := e.cfg.Client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(key), "=", kv.CreateRevision)).
			Then(clientv3.OpDelete(key)).Commit()
		if err != nil {
			return fmt.Errorf("delete the candidate %s of an earlier process: %w", key, err)
		}
		e.cfg.Logger.Info("a candidate of an earlier process was superseded", "replica", e.cfg.ID, "revision", kv.CreateRevision)
	}
	return nil
}
