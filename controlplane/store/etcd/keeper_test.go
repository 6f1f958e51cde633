package etcd

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestEphemeralRecordLivesWithItsKeeper(t *testing.T) {
	client := server(t)
	s := open(t, Config{Client: client})
	key := model.Key{Kind: model.KindReplica, ID: "r"}
	// An earlier process of the same name left its record, under a lease.
	left, err := client.Grant(within(t), 600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(within(t), key.String(), "", clientv3.WithLease(left.ID)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(t))
	puts, ended := make(chan int64, 10), make(chan error, 1)
	keeper := &EphemeralKeeper{Client: client}
	go func() {
		ended <- keeper.Keep(ctx, key, &pb.ReplicaRecord{Id: "r", Address: "here"}, 2*time.Second, func(rev int64) { puts <- rev })
	}()
	replica := func(snap *model.Snapshot) string {
		row, _ := snap.Replicas().Get("r")
		return row.Value.GetAddress()
	}
	if got := replica(after(t, s, <-puts)); got != "here" {
		t.Fatalf("address %q", got)
	}
	// The lease that was left takes nothing with it.
	if _, err := client.Revoke(within(t), left.ID); err != nil {
		t.Fatal(err)
	}
	// Somebody deletes the record, then somebody takes the lease.
	rev, err := s.Commit(within(t), model.Batch{{Key: key, If: model.AnyRevision}})
	if err != nil {
		t.Fatal(err)
	}
	next := <-puts
	if next <= rev {
		t.Fatalf("put again at %d, deleted at %d", next, rev)
	}
	leases, err := client.Leases(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases.Leases {
		if _, err := client.Revoke(within(t), l.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got := replica(after(t, s, <-puts)); got != "here" {
		t.Fatalf("address %q", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(within(t), key.String())
	if err != nil || len(resp.Kvs) != 0 {
		t.Fatalf("the record outlives its keeper: %v, %v", resp, err)
	}
	if got := replica(after(t, s, resp.Header.Revision)); got != "" {
		t.Fatalf("address %q", got)
	}
}

func TestKeeperRefusesWhatIsNoRecord(t *testing.T) {
	k := &EphemeralKeeper{}
	err := k.Keep(context.Background(), model.Key{Kind: "ghosts", ID: "x"}, &pb.ReplicaRecord{}, 0, nil)
	if !errors.Is(err, store.ErrInvalid) {
		t.Fatalf("error %v, want %v", err, store.ErrInvalid)
	}
}
