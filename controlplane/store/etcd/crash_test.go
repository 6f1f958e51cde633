package etcd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
)

// crashDir tells a second process of the test binary to be a server that
// writes until it is killed.
const crashDir = "PLIMSOLL_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func writeUntilKilled(dir string) error {
	ctx := context.Background()
	e, err := StartEmbedded(ctx, EmbeddedConfig{DataDir: dir})
	if err != nil {
		return err
	}
	s, err := Open(ctx, Config{Client: e.Client})
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		name := fmt.Sprintf("c%06d", i)
		if _, err := s.Commit(ctx, model.Batch{put(name, "x", 0), put(name+"-twin", "x", 0)}); err != nil {
			return err
		}
		fmt.Println(name)
	}
}

// TestAcknowledgedWritesSurviveAKill: what Commit acknowledged is there after
// the process was killed, and batches are there whole or not at all.
func TestAcknowledgedWritesSurviveAKill(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(within(t), exe, "-test.run=^$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		acknowledged = append(acknowledged, lines.Text())
		if len(acknowledged) == 300 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(acknowledged) < 300 {
		t.Fatalf("the writer ended by itself: %v after %d writes", err, len(acknowledged))
	}
	began := time.Now()
	s := open(t, Config{Client: func() *clientv3.Client {
		e := start(t, dir)
		t.Cleanup(func() { _ = e.Close() })
		return e.Client
	}()})
	t.Logf("serving %v after the kill", time.Since(began))
	clusters := s.Snapshot().Clusters()
	for _, name := range acknowledged {
		if _, ok := clusters.Get(name); !ok {
			t.Errorf("%s was acknowledged and is gone", name)
		}
	}
	for name := range clusters.All() {
		if _, ok := clusters.Get(strings.TrimSuffix(name, "-twin") + "-twin"); !ok {
			t.Errorf("%s is there without its twin", name)
		}
	}
}

// TestTheStoreOutlivesItsServer: while the server is away commits fail with
// ErrUnavailable and reads go on; when it is back, the snapshot follows it.
func TestTheStoreOutlivesItsServer(t *testing.T) {
	dir := t.TempDir()
	cfg := EmbeddedConfig{DataDir: filepath.Join(dir, "data"), ClientSocket: filepath.Join(dir, "s")}
	e, err := StartEmbedded(within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Connect([]string{"unix://" + cfg.ClientSocket}, nil, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := open(t, Config{Client: c, TxnTimeout: 300 * time.Millisecond})
	rev := commit(t, s, model.Batch{put("before", "x", 0)})
	after(t, s, rev)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(within(t), model.Batch{put("lost", "x", 0)}); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("commit without a server: %v", err)
	}
	if n := s.Snapshot().Clusters().Len(); n != 1 {
		t.Fatalf("%d records without a server", n)
	}
	e, err = StartEmbedded(within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	other := open(t, Config{Client: e.Client})
	rev = commit(t, other, model.Batch{put("after", "x", 0)})
	if _, ok := after(t, s, rev).Clusters().Get("after"); !ok {
		t.Fatal("the snapshot does not follow the server that came back")
	}
}
