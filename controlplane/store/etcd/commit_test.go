package etcd

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
)

// wants is a request that writes the keys.
func wants(t *testing.T, keys ...string) *request {
	t.Helper()
	var b model.Batch
	for _, k := range keys {
		b = append(b, put(k, "x", 0))
	}
	r, err := newRequest(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTakeKeepsEachKeysOrder(t *testing.T) {
	for name, c := range map[string]struct {
		maxOps, maxBytes int
		busy             []string
		queue            [][]string
		take, stay       []int
	}{
		"independent ones go together":       {queue: [][]string{{"a"}, {"b", "c"}, {"d"}}, take: []int{0, 1, 2}},
		"one key, two transactions":          {queue: [][]string{{"a"}, {"a"}, {"b"}}, take: []int{0, 2}, stay: []int{1}},
		"a key in flight waits":              {busy: []string{"a"}, queue: [][]string{{"a"}, {"b"}}, take: []int{1}, stay: []int{0}},
		"nobody overtakes one that waits":    {busy: []string{"a"}, queue: [][]string{{"a", "b"}, {"b"}, {"c"}}, take: []int{2}, stay: []int{0, 1}},
		"as many as fit":                     {maxOps: 3, queue: [][]string{{"a"}, {"b", "c"}, {"d"}}, take: []int{0, 1}, stay: []int{2}},
		"as many bytes as fit":               {maxBytes: 1, queue: [][]string{{"a"}, {"b"}}, take: []int{0}, stay: []int{1}},
		"everything in flight: nothing goes": {busy: []string{"a"}, queue: [][]string{{"a"}}, stay: []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := newMetrics(nil)
			if err != nil {
				t.Fatal(err)
			}
			com := newCommitter(t.Context(), Config{MaxTxnOps: c.maxOps, MaxTxnBytes: c.maxBytes}.withDefaults(), m)
			for _, k := range c.busy {
				com.busy[put(k, "", 0).Key.String()] = true
			}
			at := map[*request]int{}
			for i, keys := range c.queue {
				r := wants(t, keys...)
				at[r] = i
				com.queue = append(com.queue, r)
			}
			numbers := func(rs []*request) (n []int) {
				for _, r := range rs {
					n = append(n, at[r])
				}
				return n
			}
			if d := cmp.Diff(c.take, numbers(com.take())); d != "" {
				t.Errorf("taken: %s", d)
			}
			if d := cmp.Diff(c.stay, numbers(com.queue)); d != "" {
				t.Errorf("stay: %s", d)
			}
		})
	}
}

// blocked is a KV whose transactions wait until they are let go.
type blocked struct {
	clientv3.KV
	entered, release chan struct{}
}

func (b *blocked) Txn(ctx context.Context) clientv3.Txn {
	b.entered <- struct{}{}
	<-b.release
	return b.KV.Txn(ctx)
}

func TestCallersThatGiveUpLeaveTheQueue(t *testing.T) {
	client := server(t)
	gate := &blocked{KV: client.KV, entered: make(chan struct{}, 10), release: make(chan struct{})}
	slow := clientv3.NewCtxClient(context.Background())
	slow.KV, slow.Watcher, slow.Lease = gate, client.Watcher, client.Lease
	s := open(t, Config{Client: slow, MaxInFlight: 1, MaxPending: 2})
	answers := make(chan error, 3)
	write := func(ctx context.Context, name string) {
		_, err := s.Commit(ctx, model.Batch{put(name, "x", 0)})
		answers <- err
	}
	go write(within(t), "first")
	<-gate.entered
	ctx, cancel := context.WithCancel(within(t))
	go write(ctx, "second") // takes the last place
	go write(ctx, "third")  // or waits for one
	cancel()
	for range 2 {
		if err := <-answers; !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v", err)
		}
	}
	close(gate.release)
	if err := <-answers; err != nil {
		t.Fatal(err)
	}
	rev := commit(t, s, model.Batch{put("last", "x", 0)})
	if n := after(t, s, rev).Clusters().Len(); n != 2 {
		t.Fatalf("%d records, want 2: a batch that was given up in the queue was written", n)
	}
}

func TestCloseEndsWhatWaits(t *testing.T) {
	s := open(t, Config{Client: server(t)})
	waiting := make(chan error, 1)
	go func() {
		_, err := s.After(context.Background(), s.Snapshot().Revision+1000)
		waiting <- err
	}()
	s.Close()
	if err := <-waiting; !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("After: %v", err)
	}
	if _, err := s.Commit(within(t), model.Batch{put("a", "x", 0)}); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("Commit: %v", err)
	}
}
