package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	"github.com/plimsoll-project/plimsoll/controlplane/store/storetest"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

type logTo struct{ testing.TB }

func (l logTo) Write(p []byte) (int, error) {
	l.Logf("%s", p)
	return len(p), nil
}

func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(logTo{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func start(t testing.TB, dir string) *Embedded {
	t.Helper()
	e, err := StartEmbedded(within(t), EmbeddedConfig{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func server(t testing.TB) *clientv3.Client {
	t.Helper()
	e := start(t, t.TempDir())
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e.Client
}

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := Open(within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func put(name, value string, revision int64) model.Write {
	return model.Write{Key: model.Key{Kind: model.KindCluster, ID: name}, If: revision,
		Value: &pb.ClusterRecord{Cluster: &pb.Cluster{ClusterName: name, Status: value}}}
}

func commit(t testing.TB, s store.Store, b model.Batch) int64 {
	t.Helper()
	rev, err := s.Commit(within(t), b)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func after(t testing.TB, s store.Store, revision int64) *model.Snapshot {
	t.Helper()
	snap, err := s.After(within(t), revision)
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

func records(s *model.Snapshot) (all []model.Change) {
	for r := range s.Records() {
		all = append(all, r)
	}
	return all
}

func TestStore(t *testing.T) {
	client := server(t)
	for _, inFlight := range []int{1, 4} {
		t.Run(fmt.Sprint("inflight", inFlight), func(t *testing.T) {
			storetest.Run(t, storetest.Harness{
				MaxTxnOps: 128,
				Open: func(t *testing.T) store.Store {
					if _, err := client.Delete(within(t), "/", clientv3.WithPrefix()); err != nil {
						t.Fatal(err)
					}
					return open(t, Config{Client: client, MaxInFlight: inFlight, Logger: logger(t)})
				},
				Elect: func(t *testing.T, _ store.Store, key string) store.Fence {
					if _, err := client.Delete(within(t), key); err != nil {
						t.Fatal(err)
					}
					resp, err := client.Put(within(t), key, "somebody")
					if err != nil {
						t.Fatal(err)
					}
					return store.Fence{Key: key, Created: resp.Header.Revision}
				},
				Depose: func(t *testing.T, _ store.Store, key string) {
					if _, err := client.Delete(within(t), key); err != nil {
						t.Fatal(err)
					}
				},
			})
		})
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir)
	s, err := Open(within(t), Config{Client: e.Client, MaxTxnOps: EmbeddedMaxTxnOps})
	if err != nil {
		t.Fatal(err)
	}
	var batch model.Batch
	for i := range page + 500 { // more than a page of loading
		batch = append(batch, put(fmt.Sprintf("c%05d", i), "x", 0))
	}
	rev := commit(t, s, batch)
	rev = commit(t, s, model.Batch{put("c00007", "y", rev), {Key: batch[9].Key, If: rev}})
	want := records(after(t, s, rev))
	s.Close()
	if _, err := s.Commit(within(t), batch[:1]); err == nil {
		t.Fatal("a closed store commits")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = start(t, dir)
	defer e.Close()
	s = open(t, Config{Client: e.Client})
	if s.Snapshot().Revision < rev {
		t.Fatalf("revision %d after the restart, %d before", s.Snapshot().Revision, rev)
	}
	if d := cmp.Diff(want, records(s.Snapshot()), protocmp.Transform()); d != "" {
		t.Fatal(d)
	}
}

// TestCompactionUnderTheWatchReloads: a watch that lags behind a compaction
// goes on with the difference of a whole load.
func TestCompactionUnderTheWatchReloads(t *testing.T) {
	client := server(t)
	reg := prometheus.NewRegistry()
	writer := open(t, Config{Client: client})
	rev := commit(t, writer, model.Batch{put("changed", "one", 0), put("deleted", "one", 0), put("kept", "one", 0)})

	lagging, err := newLagging(within(t), Config{Client: client, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	var told []model.Change
	lagging.OnChange(func(_ *model.Snapshot, c []model.Change) { told = append(told, c...) })
	commit(t, writer, model.Batch{put("changed", "two", rev), {Key: put("deleted", "", 0).Key, If: rev}})
	last := commit(t, writer, model.Batch{put("new", "one", 0)})
	if _, err := client.Compact(within(t), last); err != nil {
		t.Fatal(err)
	}
	if err := lagging.watch(within(t)); err != nil {
		t.Fatal(err)
	}
	var reloads dto.Metric
	if err := lagging.metrics.reloads.Write(&reloads); err != nil {
		t.Fatal(err)
	}
	if n := reloads.GetCounter().GetValue(); n != 1 {
		t.Fatalf("%v reloads, want 1", n)
	}
	if d := cmp.Diff(records(after(t, writer, last)), records(lagging.Snapshot()), protocmp.Transform()); d != "" {
		t.Fatal(d)
	}
	var keys []string
	for _, c := range told {
		keys = append(keys, c.Key.ID)
	}
	if d := cmp.Diff([]string{"changed", "new", "deleted"}, keys); d != "" {
		t.Fatal(d)
	}
}

// newLagging is a Store that is loaded and does not follow.
func newLagging(ctx context.Context, cfg Config) (*Store, error) {
	s, err := Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s.Close()
	return s, nil
}

func TestBadRecordsAreLeftOut(t *testing.T) {
	client := server(t)
	for key, value := range map[string]string{
		"/plimsoll/clusters/-/bad":  "\xff\xff",
		"/plimsoll/clusters/x/odd":  "",
		"/plimsoll/ghosts/-/a":      "",
		"/plimsoll/clusters":        "",
		"/plimsoll/clusters/-/good": "",
	} {
		if _, err := client.Put(within(t), key, value); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, Config{Client: client})
	if got := records(s.Snapshot()); len(got) != 1 || got[0].Key.ID != "good" {
		t.Fatalf("loaded %v", got)
	}
	resp, err := client.Put(within(t), "/plimsoll/clusters/-/bad", "\xff")
	if err != nil {
		t.Fatal(err)
	}
	if got := records(after(t, s, resp.Header.Revision)); len(got) != 1 {
		t.Fatalf("after the watch: %v", got)
	}
}

func TestClientSocketServes(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "etcd.sock")
	e, err := StartEmbedded(within(t), EmbeddedConfig{DataDir: filepath.Join(dir, "data"), ClientSocket: socket, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	c, err := Connect([]string{"unix://" + socket}, nil, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := open(t, Config{Client: c})
	rev := commit(t, s, model.Batch{put("a", "one", 0)})
	after(t, open(t, Config{Client: e.Client}), rev)
}
