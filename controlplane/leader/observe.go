package leader

import (
	"context"
	"encoding/json"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Leader is who leads as far as this replica has seen; false if nobody does.
// It is kept while Run runs.
func (e *Elector) Leader() (Leader, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leader, e.leader.ID != ""
}

// Await waits until somebody leads. It fails with the context's error.
func (e *Elector) Await(ctx context.Context) (Leader, error) {
	for {
		e.mu.Lock()
		leader, changed := e.leader, e.changed
		e.mu.Unlock()
		if leader.ID != "" {
			return leader, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Leader{}, ctx.Err()
		}
	}
}

// Changed is closed when the leader is no longer the one that Leader answered
// before the call.
func (e *Elector) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

func (e *Elector) set(l Leader) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l != e.leader {
		e.leader = l
		close(e.changed)
		e.changed = make(chan struct{})
	}
}

// observe follows the election's keys until ctx ends; the oldest one is the
// leader's.
func (e *Elector) observe(ctx context.Context) {
	defer e.set(Leader{})
	for ctx.Err() == nil {
		if err := e.observeOnce(ctx); err != nil && ctx.Err() == nil {
			e.cfg.Logger.Debug("observing the election begins again", "err", err)
		}
		wait(ctx, backoffFirst)
	}
}

func (e *Elector) observeOnce(ctx context.Context) error {
	watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	revision, err := e.look(ctx)
	if err != nil {
		return err
	}
	for resp := range e.cfg.Client.Watch(watching, KeyPrefix+"/", clientv3.WithPrefix(), clientv3.WithRev(revision+1)) {
		if err := resp.Err(); err != nil {
			return err
		}
		if len(resp.Events) == 0 {
			continue
		}
		if _, err := e.look(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// look reads who leads now.
func (e *Elector) look(ctx context.Context) (revision int64, err error) {
	resp, err := e.cfg.Client.Get(ctx, KeyPrefix+"/", clientv3.WithFirstCreate()...)
	if err != nil {
		return 0, err
	}
	var l Leader
	if len(resp.Kvs) > 0 {
		if err := json.Unmarshal(resp.Kvs[0].Value, &l); err != nil {
			return 0, err
		}
	}
	e.set(l)
	return resp.Header.Revision, nil
}
