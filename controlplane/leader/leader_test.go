package leader

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	"github.com/plimsoll-project/plimsoll/controlplane/store/etcd"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func server(t *testing.T) *clientv3.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	e, err := etcd.StartEmbedded(ctx, etcd.EmbeddedConfig{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e.Client
}

// term is what a replica's lead was called with; closing end ends it with an
// error.
type term struct {
	ctx   context.Context
	fence store.Fence
	end   chan error
}

// replica is an elector that runs until stop.
type replica struct {
	*Elector
	terms chan term
	stop  func()
}

func run(t *testing.T, cfg Config) *replica {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &replica{Elector: New(cfg), terms: make(chan term, 10)}
	done := make(chan error, 1)
	go func() {
		done <- r.Run(ctx, func(ctx context.Context, fence store.Fence) error {
			tm := term{ctx: ctx, fence: fence, end: make(chan error, 1)}
			r.terms <- tm
			select {
			case <-ctx.Done():
				return ctx.Err()
			case err := <-tm.end:
				return err
			}
		})
	}()
	ended := false
	r.stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

func (r *replica) next(t *testing.T) term {
	t.Helper()
	select {
	case tm := <-r.terms:
		return tm
	case <-time.After(20 * time.Second):
		t.Fatalf("replica %s does not lead", r.cfg.ID)
		return term{}
	}
}

// sees waits until the replica sees that id leads.
func (r *replica) sees(t *testing.T, id string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		changed := r.Changed()
		if l, _ := r.Leader(); l.ID == id {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("replica %s does not see %q leading", r.cfg.ID, id)
		}
	}
}

func ended(t *testing.T, tm term) {
	t.Helper()
	select {
	case <-tm.ctx.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the term does not end")
	}
}

func TestOneLeadsAndTheOthersFollow(t *testing.T) {
	client := server(t)
	a := run(t, Config{Client: client, ID: "a", Address: "a:7400"})
	first := a.next(t)
	b := run(t, Config{Client: client, ID: "b", Address: "b:7400"})
	a.sees(t, "a")
	b.sees(t, "a")
	if l, err := b.Await(context.Background()); err != nil || l.Address != "a:7400" {
		t.Fatalf("leader %v, %v", l, err)
	}
	if len(b.terms) > 0 {
		t.Fatal("two lead")
	}
	a.stop()
	ended(t, first)
	second := b.next(t)
	b.sees(t, "b")
	if _, ok := a.Leader(); ok {
		t.Error("a replica that ended still says who leads")
	}
	if second.fence.Created <= first.fence.Created {
		t.Fatalf("fences %v, then %v", first.fence, second.fence)
	}
}

func TestAnErrorEndsTheTermAndTheReplicaCampaignsAgain(t *testing.T) {
	client := server(t)
	a := run(t, Config{Client: client, ID: "a"})
	first := a.next(t)
	first.end <- errors.New("a loop failed")
	second := a.next(t)
	if first.ctx.Err() == nil || second.fence == first.fence {
		t.Fatalf("fences %v and %v, first context %v", first.fence, second.fence, first.ctx.Err())
	}
}

func TestTheFenceHoldsForTheTermAlone(t *testing.T) {
	client := server(t)
	ctx := t.Context()
	s, err := etcd.Open(ctx, etcd.Config{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	write := func(id string) model.Batch {
		return model.Batch{{Key: model.Key{Kind: model.KindCluster, ID: id}, Value: &pb.ClusterRecord{}}}
	}
	a := run(t, Config{Client: client, ID: "a"})
	first := a.next(t)
	if _, err := s.Commit(ctx, write("one"), first.fence); err != nil {
		t.Fatal(err)
	}
	first.end <- errors.New("over")
	second := a.next(t)
	if _, err := s.Commit(ctx, write("two"), first.fence); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("a write of the term that is over: %v", err)
	}
	if _, err := s.Commit(ctx, write("two"), second.fence); err != nil {
		t.Fatal(err)
	}
}

// TestARestartAfterACrashLeadsAtOnce: what is left of a process that was
// killed is a key under a lease that has long to live.
func TestARestartAfterACrashLeadsAtOnce(t *testing.T) {
	client := server(t)
	left, err := client.Grant(t.Context(), 3600)
	if err != nil {
		t.Fatal(err)
	}
	key := KeyPrefix + "/left"
	if _, err := client.Put(t.Context(), key, `{"id":"a","address":"a:7400"}`, clientv3.WithLease(left.ID)); err != nil {
		t.Fatal(err)
	}
	b := run(t, Config{Client: client, ID: "b"})
	b.sees(t, "a")
	for { // b stands
		keys, err := client.Get(t.Context(), KeyPrefix+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		if keys.Count == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	a := run(t, Config{Client: client, ID: "a"})
	// b stood before a's new process, so it is b's turn, and then a's.
	tm := b.next(t)
	b.stop()
	ended(t, tm)
	a.next(t)
}

func TestANewProcessOfTheSameIDDeposesTheOld(t *testing.T) {
	client := server(t)
	old := run(t, Config{Client: client, ID: "a", Address: "old"})
	first := old.next(t)
	young := run(t, Config{Client: client, ID: "a", Address: "young"})
	young.next(t)
	ended(t, first)
	if l, err := young.Await(t.Context()); err != nil || l.Address == "" {
		t.Fatalf("leader %v, %v", l, err)
	}
	// The old one waits behind the young one, and does not depose it in turn.
	young.stop()
	old.next(t)
}

func TestALostLeaseEndsTheTerm(t *testing.T) {
	client := server(t)
	a := run(t, Config{Client: client, ID: "a", TTL: 2 * time.Second})
	first := a.next(t)
	leases, err := client.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases.Leases {
		if _, err := client.Revoke(t.Context(), l.ID); err != nil {
			t.Fatal(err)
		}
	}
	ended(t, first)
	if second := a.next(t); second.fence.Created <= first.fence.Created {
		t.Fatalf("fences %v, then %v", first.fence, second.fence)
	}
}

func TestRunWantsAnID(t *testing.T) {
	if err := Run(t.Context(), Config{}, nil); err == nil {
		t.Fatal("no error")
	}
}
