package session_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plimsoll-project/plimsoll/agent/session"
	"github.com/plimsoll-project/plimsoll/agent/session/sessiontest"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// handler notes what it is told.
type handler struct {
	mu       sync.Mutex
	sets     []*pb.Assignments
	rejected []string
	changed  chan struct{}
}

func (h *handler) note(f func()) {
	h.mu.Lock()
	f()
	h.mu.Unlock()
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

func (h *handler) Welcomed(*pb.Welcome) {}

func (h *handler) Assigned(_ context.Context, a *pb.Assignments) error {
	h.note(func() { h.sets = append(h.sets, a) })
	return nil
}

func (h *handler) Rejected(tasks []string) {
	h.note(func() { h.rejected = append(h.rejected, tasks...) })
}

func (h *handler) Logs(_ context.Context, r *pb.LogsTunnel, send func([]byte) error) error {
	if r.GetTaskId() == "bad" {
		return errors.New("no such task")
	}
	return errors.Join(send([]byte("one\n")), send([]byte("two\n")))
}

func (h *handler) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(sessiontest.Patience)
	for {
		h.mu.Lock()
		done := ok()
		h.mu.Unlock()
		if done {
			return
		}
		select {
		case <-h.changed:
		case <-limit:
			t.Fatalf("%s did not come", what)
		}
	}
}

// open joins and runs a session that ends with the test.
func open(t *testing.T, s *sessiontest.Server, servers ...string) (*session.Session, *handler) {
	t.Helper()
	id, err := session.Join(t.Context(), t.TempDir(), s.Token, "", []string{s.Address})
	if err != nil {
		t.Fatal(err)
	}
	h := &handler{changed: make(chan struct{}, 1)}
	c := session.New(session.Config{
		Identity: id, Servers: append(servers, s.Address), Hello: func() *pb.Hello { return &pb.Hello{Hostname: "h"} },
		Handler: h, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Connected: func(bool) {},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the session ends with %v", err)
		}
	})
	return c, h
}

func TestJoinStoresTheIdentityPrivately(t *testing.T) {
	s := sessiontest.New(t)
	dir := filepath.Join(t.TempDir(), "identity")
	if _, err := session.Load(dir); !errors.Is(err, session.ErrNotJoined) {
		t.Errorf("before joining: %v", err)
	}
	made, err := session.Join(t.Context(), dir, s.Token, "", []string{s.Address})
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := session.Load(dir)
	if err != nil || loaded.Instance != made.Instance || loaded.Cluster != "default" {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
	for _, name := range []string{"node.key", "node.crt", "node.json", "ca.crt"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if loaded.Expired(time.Now()) || !loaded.Expired(time.Now().Add(2*time.Hour)) {
		t.Error("the certificate's end is not known")
	}
}

func TestJoinRefusesAnotherAuthority(t *testing.T) {
	s, other := sessiontest.New(t), sessiontest.New(t)
	_, err := session.Join(t.Context(), t.TempDir(), other.Token, "", []string{s.Address})
	if err == nil || !strings.Contains(err.Error(), "authority") {
		t.Errorf("joined a server of another authority: %v", err)
	}
	s.Await("no join", func(st sessiontest.State) bool { return st.Joined == 0 })
}

func TestJoinTriesTheNextServer(t *testing.T) {
	s, other := sessiontest.New(t), sessiontest.New(t)
	if _, err := session.Join(t.Context(), t.TempDir(), s.Token, "", []string{other.Address, s.Address}); err != nil {
		t.Error(err)
	}
}

func TestStatusIsSentUntilItIsAcknowledged(t *testing.T) {
	s := sessiontest.New(t)
	s.Mute(true)
	c, h := open(t, s)
	c.Report(&pb.TaskStatusRecord{Task: "a", LastStatus: "PENDING", Version: 1})
	s.Await("a batch", func(st sessiontest.State) bool { return st.Batches == 1 })
	c.Report(&pb.TaskStatusRecord{Task: "a", LastStatus: "RUNNING", Version: 2})
	s.Mute(false)
	s.Break()
	if r := s.AwaitStatus("a", "RUNNING"); r.GetVersion() != 2 {
		t.Errorf("the status is %v", r)
	}
	// Stored, but the acknowledgement is lost: it is sent again and refused.
	s.Deaf(true)
	c.Report(&pb.TaskStatusRecord{Task: "a", LastStatus: "STOPPED", Version: 3})
	s.AwaitStatus("a", "STOPPED")
	s.Deaf(false)
	s.Break()
	h.await(t, "the refusal", func() bool { return len(h.rejected) == 1 })
}

func TestGapInTheAssignmentsEndsTheSession(t *testing.T) {
	s := sessiontest.New(t)
	_, h := open(t, s)
	h.await(t, "the first set", func() bool { return len(h.sets) == 1 })
	s.Assign(&pb.Assignment{TaskId: "a"})
	h.await(t, "the second set", func() bool { return len(h.sets) == 2 })
	s.Gap()
	s.Assign(&pb.Assignment{TaskId: "b"})
	h.await(t, "a complete set", func() bool { return len(h.sets) == 3 })
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, want := range []pb.Assignments_Type{pb.Assignments_TYPE_COMPLETE, pb.Assignments_TYPE_INCREMENTAL, pb.Assignments_TYPE_COMPLETE} {
		if got := h.sets[i].GetType(); got != want {
			t.Errorf("set %d is %v, want %v", i, got, want)
		}
	}
	if n := len(h.sets[2].GetUpdates()); n != 2 {
		t.Errorf("the complete set has %d tasks", n)
	}
}

func TestSessionComesBackAndFindsTheServerThatIsThere(t *testing.T) {
	s, gone := sessiontest.New(t), sessiontest.New(t)
	gone.Stop()
	c, _ := open(t, s, gone.Address)
	s.Await("a session", func(st sessiontest.State) bool { return st.Sessions == 1 })
	s.Stop()
	s.Await("the session's end", func(st sessiontest.State) bool { return st.Sessions == 0 })
	c.Report(&pb.TaskStatusRecord{Task: "a", LastStatus: "RUNNING", Version: 1})
	s.Start()
	s.AwaitStatus("a", "RUNNING")
}

func TestCertificateIsRenewed(t *testing.T) {
	s := sessiontest.New(t)
	s.Life = 1500 * time.Millisecond
	_, _ = open(t, s)
	s.Await("a renewal", func(st sessiontest.State) bool { return st.Renewed >= 1 })
	s.Break()
	s.Await("a session with the new certificate", func(st sessiontest.State) bool { return len(st.Hellos) >= 2 && st.Sessions == 1 })
}

func TestLogsTunnel(t *testing.T) {
	s := sessiontest.New(t)
	open(t, s)
	s.Await("a session", func(st sessiontest.State) bool { return st.Sessions == 1 })
	if got, err := s.Logs("1", &pb.LogsTunnel{TaskId: "a"}); err != nil || got != "one\ntwo\n" {
		t.Errorf("the logs are %q, %v", got, err)
	}
	if _, err := s.Logs("2", &pb.LogsTunnel{TaskId: "bad"}); err == nil || !strings.Contains(err.Error(), "no such task") {
		t.Errorf("the error is %v", err)
	}
}
