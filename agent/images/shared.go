package images

import (
	"context"
	"sync"
	"time"
)

// shared is work that callers who ask for the same have in common: it is done
// once, and its result stands for fresh. It ends when nobody waits any more.
type shared[T any] struct {
	fresh time.Duration

	mu    sync.Mutex
	calls map[string]*call[T]
}

// call is one piece of work. Its result is read once done is closed.
type call[T any] struct {
	done   chan struct{}
	result T
	err    error
	ended  time.Time

	// The rest is guarded by shared.mu.
	waiting int
	cancel  context.CancelFunc
	text    string
}

func newShared[T any](fresh time.Duration) *shared[T] {
	return &shared[T]{fresh: fresh, calls: map[string]*call[T]{}}
}

// do answers work's result for the key. While work goes on, tell is called each
// tellEvery with what work said last.
func (s *shared[T]) do(ctx context.Context, key string, tell func(string), work func(ctx context.Context, say func(string)) (T, error)) (T, error) {
	s.mu.Lock()
	c := s.calls[key]
	if c != nil && c.over() && (c.err != nil || time.Since(c.ended) >= s.fresh) {
		c = nil
	}
	if c == nil {
		c = s.begin(ctx, key, work)
	}
	c.waiting++
	s.mu.Unlock()
	defer s.leave(key, c)
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return c.result, c.err
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		case <-tick.C:
			s.mu.Lock()
			text := c.text
			s.mu.Unlock()
			if text != "" {
				tell(text)
			}
		}
	}
}

// begin starts work on a key; the caller holds the lock.
func (s *shared[T]) begin(ctx context.Context, key string, work func(context.Context, func(string)) (T, error)) *call[T] {
	for old, c := range s.calls {
		if c.over() && time.Since(c.ended) >= s.fresh {
			delete(s.calls, old)
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &call[T]{done: make(chan struct{}), cancel: cancel}
	s.calls[key] = c
	go func() {
		defer close(c.done)
		c.result, c.err = work(ctx, func(text string) {
			s.mu.Lock()
			c.text = text
			s.mu.Unlock()
		})
		c.ended = time.Now()
	}()
	return c
}

// leave is called by who no longer waits. Work that nobody waits for ends, and
// who asks next begins anew.
func (s *shared[T]) leave(key string, c *call[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.waiting--
	if c.waiting > 0 {
		return
	}
	if !c.over() && s.calls[key] == c {
		delete(s.calls, key)
	}
	c.cancel()
}

func (c *call[T]) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}
