package runner

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
)

// inbox is a task's queue of changes. It never blocks who puts: its length is
// bounded by the steps, events and assignments that one task can have at once.
type inbox struct {
	mu     sync.Mutex
	queue  []func(*task)
	wake   chan struct{}
	closed bool
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

func (b *inbox) put(f func(*task)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.queue = append(b.queue, f)
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take waits for changes; none if ctx ends.
func (b *inbox) take(ctx context.Context) []func(*task) {
	select {
	case <-b.wake:
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue
	b.queue = nil
	return q
}

// close answers what is left and takes no more.
func (b *inbox) close() []func(*task) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return b.queue
}

// containerPrefix makes arn:...:container/CLUSTER/TASK of arn:...:task/CLUSTER/TASK.
func containerPrefix(taskARN string) string {
	return strings.Replace(taskARN, ":task/", ":container/", 1)
}

func uuidOf(s string) string {
	h := sha256.Sum256([]byte(s))
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
