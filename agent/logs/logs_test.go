package logs

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const patience = 20 * time.Second

func newLogs(t *testing.T, cfg Config) *Logs {
	t.Helper()
	cfg.Dir = t.TempDir()
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// write appends as a shim does.
func write(t *testing.T, l *Logs, task, container, text string) string {
	t.Helper()
	path := l.Path(task, container)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
	return path
}

func lines(from, to int) string {
	var b strings.Builder
	for n := from; n < to; n++ {
		fmt.Fprintf(&b, "line %06d of the output\n", n)
	}
	return b.String()
}

// follower reads in the background.
type follower struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
	done chan error
}

func follow(ctx context.Context, l *Logs, task, container string, tail int) *follower {
	f := &follower{more: make(chan struct{}, 1), done: make(chan error, 1)}
	go func() {
		f.done <- l.Read(ctx, task, container, tail, true, func(b []byte) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.text.Write(b)
			select {
			case f.more <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	return f
}

func (f *follower) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		f.mu.Lock()
		got := f.text.String()
		f.mu.Unlock()
		if strings.HasSuffix(got, text) {
			return
		}
		select {
		case <-f.more:
		case <-deadline:
			t.Fatalf("%q does not end with %q", got, text)
		}
	}
}

func (f *follower) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-f.done:
		return err
	case <-time.After(patience):
		t.Fatal("the follower does not end")
		return nil
	}
}

func TestTail(t *testing.T) {
	l := newLogs(t, Config{})
	write(t, l, "t", "c", lines(0, 10000)+"no newline")
	for _, test := range []struct {
		tail int
		want string
	}{
		{-1, ""},
		{0, lines(0, 10000) + "no newline"},
		{1, "no newline"},
		{3, lines(9998, 10000) + "no newline"},
		{5000, lines(5001, 10000) + "no newline"},
		{20000, lines(0, 10000) + "no newline"},
	} {
		var got strings.Builder
		err := l.Read(t.Context(), "t", "c", test.tail, false, func(b []byte) error { got.Write(b); return nil })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got.String()); diff != "" {
			t.Errorf("tail %d (-want +got):\n%s", test.tail, diff)
		}
	}
}

func TestRotationBoundsTheDiskAndKeepsTheNewest(t *testing.T) {
	const limit = 1 << 20
	l := newLogs(t, Config{MaxBytes: limit})
	for n := range 8 {
		path := write(t, l, "t", "c", lines(n*30000, (n+1)*30000))
		l.step(time.Now())
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if got := st.Blocks * 512; got > limit {
			t.Fatalf("%d bytes on disk, the bound is %d", got, limit)
		}
	}
	var got strings.Builder
	if err := l.Read(t.Context(), "t", "c", 0, false, func(b []byte) error { got.Write(b); return nil }); err != nil {
		t.Fatal(err)
	}
	want := lines(0, 8*30000)
	if !strings.HasSuffix(want, "\n"+got.String()) || got.Len() < limit/2 {
		t.Errorf("%d bytes kept, which are not the last whole lines that were written: %.40q...", got.Len(), got.String())
	}
	got.Reset()
	if err := l.Read(t.Context(), "t", "c", 100, false, func(b []byte) error { got.Write(b); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lines(8*30000-100, 8*30000), got.String()); diff != "" {
		t.Error(diff)
	}
}

func TestFollowEndsWhenTheTaskHasStopped(t *testing.T) {
	l := newLogs(t, Config{})
	write(t, l, "t", "c", "before\n")
	f := follow(t.Context(), l, "t", "", 0)
	f.await(t, "before\n")
	write(t, l, "t", "c", "after\n")
	f.await(t, "after\n")
	write(t, l, "t", "c", "last\n")
	if err := l.Stopped("t"); err != nil {
		t.Fatal(err)
	}
	if err := f.end(t); err != nil {
		t.Error(err)
	}
	f.await(t, "before\nafter\nlast\n")
}

func TestFollowEndsWhenTheLogIsRemoved(t *testing.T) {
	l := newLogs(t, Config{})
	path := write(t, l, "t", "c", "text\n")
	f := follow(t.Context(), l, "t", "c", 0)
	f.await(t, "text\n")
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if err := f.end(t); err != nil {
		t.Error(err)
	}
}

func TestFollowGoesOnAfterTruncation(t *testing.T) {
	l := newLogs(t, Config{})
	path := write(t, l, "t", "c", lines(0, 100))
	f := follow(t.Context(), l, "t", "c", 1)
	f.await(t, lines(99, 100))
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	write(t, l, "t", "c", "after\n")
	f.await(t, "after\n")
}

func TestFollowEndsWithItsContext(t *testing.T) {
	l := newLogs(t, Config{})
	write(t, l, "t", "c", "text\n")
	ctx, cancel := context.WithCancel(t.Context())
	f := follow(ctx, l, "t", "c", 0)
	f.await(t, "text\n")
	cancel()
	if err := f.end(t); err != context.Canceled {
		t.Errorf("ended with %v", err)
	}
}

func TestRetention(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"all fit", Config{KeepStopped: 10 * time.Hour, KeepTasks: 10}, []string{"running", "s1", "s2", "s3", "s4"}},
		{"by age", Config{KeepStopped: 150 * time.Minute}, []string{"running", "s1", "s2"}},
		{"by number", Config{KeepStopped: 10 * time.Hour, KeepTasks: 1}, []string{"running", "s1"}},
		{"by bytes", Config{KeepStopped: 10 * time.Hour, KeepBytes: 3 * 64 << 10}, []string{"running", "s1", "s2", "s3"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLogs(t, test.cfg)
			for n := range 5 {
				task := "running"
				if n > 0 {
					task = fmt.Sprintf("s%d", n)
				}
				write(t, l, task, "c", strings.Repeat("x", 64<<10))
				if n == 0 {
					continue
				}
				if err := l.Stopped(task); err != nil {
					t.Fatal(err)
				}
				at := now.Add(-time.Duration(n) * time.Hour)
				if err := os.Chtimes(filepath.Join(l.cfg.Dir, task, stoppedMark), at, at); err != nil {
					t.Fatal(err)
				}
			}
			l.step(now)
			entries, err := os.ReadDir(l.cfg.Dir)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				got = append(got, e.Name())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNamesStayInside(t *testing.T) {
	l := newLogs(t, Config{})
	write(t, l, "t", "c", "secret\n")
	for _, name := range [][2]string{{"..", "c"}, {"../x", "c"}, {"", "c"}, {"t", "../t/c"}, {"t", "none"}, {"none", ""}} {
		err := l.Read(t.Context(), name[0], name[1], 0, false, func([]byte) error { return nil })
		if err == nil {
			t.Errorf("%q was read", name)
		}
	}
	if err := l.Stopped("none"); err != nil {
		t.Errorf("a task without output: %v", err)
	}
}

func TestSizesAreLookedAtSoonerWhereAFileGrowsFast(t *testing.T) {
	for _, c := range []struct {
		name        string
		before, now map[string]int64
		elapsed     time.Duration
		want        time.Duration
	}{
		{"nothing there", nil, nil, time.Second, time.Second},
		{"nothing grows", map[string]int64{"a": 5000}, map[string]int64{"a": 5000}, time.Second, time.Second},
		{"slowly", map[string]int64{"a": 0}, map[string]int64{"a": 100}, time.Second, time.Second},
		{"by half the bound in a tenth", map[string]int64{"a": 0, "b": 0}, map[string]int64{"a": 5000, "b": 1}, time.Second, 100 * time.Millisecond},
		{"a new file", nil, map[string]int64{"a": 1000}, 200 * time.Millisecond, 100 * time.Millisecond},
		{"too fast", nil, map[string]int64{"a": 1 << 40}, time.Second, rotateSoonest},
		{"truncated", map[string]int64{"a": 1 << 40}, map[string]int64{"a": 0}, time.Second, time.Second},
	} {
		if got := pause(c.before, c.now, c.elapsed, 1000); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
