package session

import (
	"sync"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// maxBatch bounds the statuses of one batch.
const maxBatch = 200

// reporter keeps the newest status of each task that was not acknowledged.
type reporter struct {
	mu      sync.Mutex
	pending map[string]*pb.TaskStatusRecord
	wake    chan struct{}
}

func newReporter() *reporter {
	return &reporter{pending: map[string]*pb.TaskStatusRecord{}, wake: make(chan struct{}, 1)}
}

// put takes a status; a newer one of the same task replaces it.
func (r *reporter) put(s *pb.TaskStatusRecord) {
	r.mu.Lock()
	r.pending[s.GetTask()] = s
	r.mu.Unlock()
	r.poke()
}

func (r *reporter) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// batch is what is to be sent now; it stays until done.
func (r *reporter) batch() []*pb.TaskStatusRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*pb.TaskStatusRecord
	for _, s := range r.pending {
		if out = append(out, s); len(out) == maxBatch {
			break
		}
	}
	return out
}

// done forgets what was acknowledged, but for what changed since it was sent.
func (r *reporter) done(sent []*pb.TaskStatusRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range sent {
		if r.pending[s.GetTask()] == s {
			delete(r.pending, s.GetTask())
		}
	}
	if len(r.pending) > 0 {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}
