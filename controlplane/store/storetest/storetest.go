package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// Harness is what the suite needs of an implementation.
type Harness struct {
	// Open makes an empty store that ends with the test.
	Open func(t *testing.T) store.Store
	// Elect puts the key as an election does, anew if it is there, and answers
	// its fence.
	Elect func(t *testing.T, s store.Store, key string) store.Fence
	// Depose deletes the key.
	Depose func(t *testing.T, s store.Store, key string)
	// MaxTxnOps is the bound of a batch's writes and fences in Open's stores.
	MaxTxnOps int
}

// patience bounds every wait of the suite.
const patience = 20 * time.Second

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for name, test := range map[string]func(*testing.T, Harness){
		"CreateUpdateDelete":              testCreateUpdateDelete,
		"Conflicts":                       testConflicts,
		"BatchIsAtomic":                   testBatchIsAtomic,
		"InvalidBatches":                  testInvalidBatches,
		"TooLarge":                        testTooLarge,
		"EmptyBatch":                      testEmptyBatch,
		"ElectionFence":                   testElectionFence,
		"RecordFence":                     testRecordFence,
		"FenceBeforeConflict":             testFenceBeforeConflict,
		"AfterWaits":                      testAfterWaits,
		"AfterSeesRevisionOfNoChange":     testAfterSeesRevisionOfNoChange,
		"CancelledContext":                testCancelledContext,
		"SubscribeWakes":                  testSubscribeWakes,
		"OnChangeInOrder":                 testOnChangeInOrder,
		"ValuesAreCopied":                 testValuesAreCopied,
		"ConcurrentCounters":              testConcurrentCounters,
		"ConcurrentCreateHasOneWinner":    testConcurrentCreate,
		"ConflictsDoNotSpread":            testConflictsDoNotSpread,
		"OneWritersOrderIsKept":           testOneWritersOrder,
		"ConcurrentFencedWritersAreApart": testConcurrentFences,
	} {
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func clusterKey(name string) model.Key { return model.Key{Kind: model.KindCluster, ID: name} }

func cluster(name, status string) *pb.ClusterRecord {
	return &pb.ClusterRecord{Cluster: &pb.Cluster{ClusterName: name, Status: status}}
}

// put writes a cluster whose status is the value.
func put(name, value string, revision int64) model.Write {
	return model.Write{Key: clusterKey(name), Value: cluster(name, value), If: revision}
}

func commit(t *testing.T, s store.Store, b model.Batch, fences ...store.Fence) int64 {
	t.Helper()
	rev, err := s.Commit(within(t), b, fences...)
	if err != nil {
		t.Fatalf("commit %v: %v", b, err)
	}
	return rev
}

func after(t *testing.T, s store.Store, revision int64) *model.Snapshot {
	t.Helper()
	snap, err := s.After(within(t), revision)
	if err != nil {
		t.Fatalf("wait for revision %d: %v", revision, err)
	}
	if snap.Revision < revision {
		t.Fatalf("After(%d) answered revision %d", revision, snap.Revision)
	}
	return snap
}

// expect checks a cluster's status and revision; status "" expects none.
func expect(t *testing.T, snap *model.Snapshot, name, status string, revision int64) {
	t.Helper()
	row, ok := snap.Clusters().Get(name)
	if !ok {
		if status != "" {
			t.Fatalf("cluster %s is not there, want %s", name, status)
		}
		return
	}
	if status == "" {
		t.Fatalf("cluster %s is there: %v", name, row.Value)
	}
	if !proto.Equal(row.Value, cluster(name, status)) || row.Revision != revision {
		t.Fatalf("cluster %s is %v at %d, want %s at %d", name, row.Value, row.Revision, status, revision)
	}
}

func refuse(t *testing.T, s store.Store, class error, b model.Batch, fences ...store.Fence) {
	t.Helper()
	if rev, err := s.Commit(within(t), b, fences...); !errors.Is(err, class) {
		t.Fatalf("commit %v: revision %d, error %v; want %v", b, rev, err, class)
	}
}
