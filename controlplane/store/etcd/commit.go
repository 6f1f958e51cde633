package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/plimsoll-project/plimsoll/controlplane/store"
)

// committer groups requests into transactions.
type committer struct {
	cfg     Config
	metrics *metrics
	ctx     context.Context // of the transactions; ended by the Store's Close
	room    chan struct{}   // a token for each pending request
	running sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	queue    []*request
	inFlight int
	busy     map[string]bool // keys written by the transactions in flight
}

func newCommitter(ctx context.Context, cfg Config, m *metrics) *committer {
	return &committer{cfg: cfg, metrics: m, ctx: ctx, room: make(chan struct{}, cfg.MaxPending), busy: map[string]bool{}}
}

// commit queues the request and waits for its result.
func (c *committer) commit(ctx context.Context, r *request) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	select {
	case c.room <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-c.ctx.Done():
		return 0, errClosed
	}
	c.metrics.pending.Inc()
	defer func() {
		c.metrics.pending.Dec()
		<-c.room
	}()
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, errClosed
	}
	c.queue = append(c.queue, r)
	c.dispatch()
	c.mu.Unlock()
	select {
	case res := <-r.done:
		return res.revision, res.err
	case <-ctx.Done():
		c.withdraw(r)
		return 0, ctx.Err()
	}
}

// withdraw takes a request out that is not in a transaction yet.
func (c *committer) withdraw(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, q := range c.queue {
		if q == r {
			c.queue = append(c.queue[:i:i], c.queue[i+1:]...)
			c.dispatch() // r may have kept others back
			return
		}
	}
}

// dispatch starts as many transactions as may be in flight. The caller holds mu.
func (c *committer) dispatch() {
	for c.inFlight < c.cfg.MaxInFlight && len(c.queue) > 0 {
		group := c.take()
		if len(group) == 0 {
			return
		}
		c.inFlight++
		for _, r := range group {
			for _, w := range r.writes {
				c.busy[w.key] = true
			}
		}
		c.running.Go(func() { c.run(group) })
	}
}

// take takes requests from the queue, the oldest first, that fit into one
// transaction and touch no key of each other, of a transaction in flight, or of
// an older request that stays. The caller holds mu.
func (c *committer) take() (group []*request) {
	held := map[string]bool{}
	var stay []*request
	writes, conditions, bytes := 0, 0, 0
	for i, r := range c.queue {
		w, cond := writes+len(r.writes), conditions+r.conditions+len(r.fences)
		if len(group) > 0 && (w > c.cfg.MaxTxnOps || cond > c.cfg.MaxTxnOps || bytes+r.bytes > c.cfg.MaxTxnBytes) {
			stay = append(stay, c.queue[i:]...)
			break
		}
		free := true
		for _, w := range r.writes {
			free = free && !c.busy[w.key] && !held[w.key]
		}
		for _, w := range r.writes {
			held[w.key] = true
		}
		if !free {
			stay = append(stay, r)
			continue
		}
		group = append(group, r)
		writes, conditions, bytes = w, cond, bytes+r.bytes
	}
	c.queue = stay
	return group
}

// run sees a group through: each round of it commits what is left, or refuses
// at least one request.
func (c *committer) run(group []*request) {
	for left := group; len(left) > 0; {
		left = c.attempt(left)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight--
	for _, r := range group {
		for _, w := range r.writes {
			delete(c.busy, w.key)
		}
	}
	c.dispatch()
}

// attempt runs one transaction, and answers the requests that must go again.
func (c *committer) attempt(group []*request) (again []*request) {
	conditions, writes, reads := transaction(group)
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.TxnTimeout)
	defer cancel()
	began := time.Now()
	resp, err := c.cfg.Client.Txn(ctx).If(conditions...).Then(writes...).Else(reads...).Commit()
	c.metrics.seconds.Observe(time.Since(began).Seconds())
	switch {
	case err != nil && len(group) > 1 && tooLarge(err):
		for _, r := range group {
			c.attempt([]*request{r})
		}
	case err != nil:
		c.metrics.transactions.WithLabelValues("failed").Inc()
		answer(group, result{err: classify(err)})
	case resp.Succeeded:
		c.metrics.transactions.WithLabelValues("committed").Inc()
		c.metrics.operations.Observe(float64(len(writes)))
		answer(group, result{revision: resp.Header.Revision})
	default:
		c.metrics.transactions.WithLabelValues("refused").Inc()
		return c.refuse(group, resp)
	}
	return nil
}

// refuse answers the requests whose conditions did not hold when the
// transaction looked; the others go again.
func (c *committer) refuse(group []*request, resp *clientv3.TxnResponse) (again []*request) {
	at := map[string]version{}
	for _, read := range resp.Responses {
		for _, kv := range read.GetResponseRange().Kvs {
			at[string(kv.Key)] = version{created: kv.CreateRevision, modified: kv.ModRevision}
		}
	}
	for _, r := range group {
		err := r.refusal(at)
		switch {
		case err == nil:
			again = append(again, r)
			continue
		case errors.Is(err, store.ErrFenced):
			c.metrics.refused.WithLabelValues("fenced").Inc()
		default:
			c.metrics.refused.WithLabelValues("conflict").Inc()
		}
		r.done <- result{err: err}
	}
	return again
}

func answer(group []*request, res result) {
	for _, r := range group {
		r.done <- res
	}
}

// close fails what waits, and waits for what is in flight.
func (c *committer) close() {
	c.mu.Lock()
	c.closed = true
	answer(c.queue, result{err: errClosed})
	c.queue = nil
	c.mu.Unlock()
	c.running.Wait()
}

func tooLarge(err error) bool {
	return errors.Is(err, rpctypes.ErrRequestTooLarge) || errors.Is(err, rpctypes.ErrTooManyOps)
}

// classify makes etcd's error one of the store's classes.
func classify(err error) error {
	if tooLarge(err) {
		return fmt.Errorf("commit: %w: %w", err, store.ErrTooLarge)
	}
	return fmt.Errorf("commit: %w: %w", err, store.ErrUnavailable)
}
