// Package logs keeps containers' output: a file for each container, written by
// its shim, bounded on disk by one rotator for all.
//
// The rotator frees the head of a file that has grown too large (it punches a
// hole), so that nothing is lost that was written meanwhile and offsets stay as
// they are; the freed part reads as zeros and is skipped. It owns the
// directory. Run is its one goroutine; readers run on their caller's.
package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Config is what Logs needs; zero values take the defaults named.
type Config struct {
	// Dir holds TASK/CONTAINER.log.
	Dir string
	// MaxBytes is what one container may keep on disk. 50 MiB.
	MaxBytes int64
	// KeepStopped is how long a stopped task's output is kept. 3 h.
	KeepStopped time.Duration
	// KeepTasks is how many stopped tasks' output is kept at most. 200.
	KeepTasks int
	// KeepBytes is what the output of all stopped tasks may take on disk, the
	// oldest going first. 2 GiB.
	KeepBytes int64
	Logger    *slog.Logger
}

// Logs is safe for concurrent use.
type Logs struct{ cfg Config }

// New makes the directory and Logs over it.
func New(cfg Config) (*Logs, error) {
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = 50 << 20
	}
	if cfg.KeepStopped <= 0 {
		cfg.KeepStopped = 3 * time.Hour
	}
	if cfg.KeepTasks <= 0 {
		cfg.KeepTasks = 200
	}
	if cfg.KeepBytes <= 0 {
		cfg.KeepBytes = 2 << 30
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the log directory: %w", err)
	}
	return &Logs{cfg}, nil
}

// Path is a container's file.
func (l *Logs) Path(task, container string) string {
	return filepath.Join(l.cfg.Dir, task, container+".log")
}

const stoppedMark = ".stopped"

// Stopped says that the task has stopped: its output ends, and is removed later.
func (l *Logs) Stopped(task string) error {
	dir := filepath.Join(l.cfg.Dir, task)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, stoppedMark), nil, 0o600)
}

func (l *Logs) ended(task string) bool {
	_, err := os.Stat(filepath.Join(l.cfg.Dir, task, stoppedMark))
	return err == nil
}

// Sizes are looked at each rotateInterval, and sooner, but not before
// rotateSoonest, where a file would grow by half its bound in that time.
const (
	rotateInterval = time.Second
	rotateSoonest  = 20 * time.Millisecond
)

// Run rotates and removes until ctx ends.
func (l *Logs) Run(ctx context.Context) error {
	t := time.NewTimer(rotateInterval)
	defer t.Stop()
	sizes, last := map[string]int64{}, time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			seen := l.step(now)
			t.Reset(pause(sizes, seen, now.Sub(last), l.cfg.MaxBytes))
			sizes, last = seen, now
		}
	}
}

// pause is until when the file that grows fastest has grown by half of limit, as
// its sizes before and now, so much later, let expect.
func pause(before, now map[string]int64, elapsed time.Duration, limit int64) time.Duration {
	wait := rotateInterval
	for file, size := range now {
		if grown := size - before[file]; grown > 0 {
			wait = min(wait, time.Duration(float64(elapsed)*float64(limit/2)/float64(grown)))
		}
	}
	return max(wait, rotateSoonest)
}

// step bounds every file and removes what is kept no longer. It answers the
// files' sizes, holes included.
func (l *Logs) step(now time.Time) map[string]int64 {
	dirs, err := os.ReadDir(l.cfg.Dir)
	if err != nil {
		l.cfg.Logger.Warn("read the log directory", "err", err)
		return nil
	}
	sizes := map[string]int64{}
	type done struct {
		dir   string
		at    time.Time
		bytes int64
	}
	var stopped []done
	for _, d := range dirs {
		dir := filepath.Join(l.cfg.Dir, d.Name())
		files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
		var bytes int64
		for _, f := range files {
			if sizes[f], err = bound(f, l.cfg.MaxBytes); err != nil {
				l.cfg.Logger.Warn("bound a log", "file", f, "err", err)
			}
			bytes += onDisk(f)
		}
		if info, err := os.Stat(filepath.Join(dir, stoppedMark)); err == nil {
			stopped = append(stopped, done{dir, info.ModTime(), bytes})
		}
	}
	slices.SortFunc(stopped, func(a, b done) int { return b.at.Compare(a.at) })
	var kept int64
	for i, s := range stopped {
		kept += s.bytes
		if i >= l.cfg.KeepTasks || kept > l.cfg.KeepBytes || now.Sub(s.at) > l.cfg.KeepStopped {
			if err := os.RemoveAll(s.dir); err != nil {
				l.cfg.Logger.Warn("remove a log", "dir", s.dir, "err", err)
			}
		}
	}
	return sizes
}

// onDisk is what a file takes, its holes not counted; 0 if it is gone.
func onDisk(file string) int64 {
	var st unix.Stat_t
	if unix.Stat(file, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// bound frees the head of a file that takes more than limit bytes on disk, and
// leaves three quarters of that. It answers the file's size, 0 if it is gone.
func bound(file string, limit int64) (size int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil || st.Blocks*512 <= limit {
		return st.Size, nil
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return st.Size, err
	}
	defer f.Close()
	keep := limit / 4 * 3
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, (st.Size-keep)&^4095)
	if errors.Is(err, unix.EOPNOTSUPP) {
		// What the container writes between these two calls is lost there.
		return 0, f.Truncate(0)
	}
	return st.Size, err
}

// pollInterval is how often a follower looks for more.
const pollInterval = 200 * time.Millisecond

// Read hands a container's output to send: the last tail lines (all that is kept
// if 0, none if negative), and with follow what comes until the task has
// stopped, the log is removed or ctx ends. An empty container name is the task's one container.
func (l *Logs) Read(ctx context.Context, task, container string, tail int, follow bool, send func([]byte) error) error {
	path, err := l.find(task, container)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer f.Close()
	if err := seek(f, tail); err != nil {
		return err
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	buf := make([]byte, 64<<10)
	for {
		gone, err := rewind(f)
		if err != nil {
			return err
		}
		ended := gone || l.ended(task)
		for {
			n, err := f.Read(buf)
			if n > 0 {
				if data := bytes.TrimLeft(buf[:n], "\x00"); len(data) > 0 {
					if err := send(data); err != nil {
						return err
					}
				}
			}
			if errors.Is(err, io.EOF) || n == 0 && err == nil {
				break
			} else if err != nil {
				return fmt.Errorf("read the log: %w", err)
			}
		}
		if !follow || ended {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// rewind goes to the beginning of a file that was truncated below where it is
// read, and says whether the file was removed.
func rewind(f *os.File) (gone bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, fmt.Errorf("look at the log: %w", err)
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err == nil && at > st.Size {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return false, fmt.Errorf("rewind the log: %w", err)
	}
	return st.Nlink == 0, nil
}

func (l *Logs) find(task, container string) (string, error) {
	if strings.ContainsAny(task+container, "/\x00") || task == "" || task == ".." {
		return "", fmt.Errorf("no task %q", task)
	}
	if container != "" {
		path := l.Path(task, container)
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("container %q of the task has no output here: it has not started, or its log was removed", container)
		}
		return path, nil
	}
	files, _ := filepath.Glob(filepath.Join(l.cfg.Dir, task, "*.log"))
	if len(files) != 1 {
		return "", fmt.Errorf("the task has %d logs here: it has not started, its log was removed, or the container must be named", len(files))
	}
	return files[0], nil
}

// seek goes to where the last lines begin: past the hole, in any case.
func seek(f *os.File, lines int) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || lines < 0 {
		return err
	}
	start, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	if err != nil {
		start = 0
	}
	if start > 0 {
		if start, err = nextLine(f, start); err != nil {
			return err
		}
	}
	from := start
	if lines > 0 {
		if from, err = lastLines(f, start, size, lines); err != nil {
			return err
		}
	}
	_, err = f.Seek(from, io.SeekStart)
	return err
}

// nextLine is where the first whole line after a hole begins; where the hole
// ends if no line does within 64 KiB.
func nextLine(f io.ReaderAt, start int64) (int64, error) {
	buf := make([]byte, 64<<10)
	n, err := f.ReadAt(buf, start)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	if at := bytes.IndexByte(buf[:n], '\n'); at >= 0 {
		return start + int64(at) + 1, nil
	}
	return start, nil
}

// lastLines is the offset at which the last n lines begin.
func lastLines(f io.ReaderAt, start, size int64, n int) (int64, error) {
	const chunk = 64 << 10
	buf := make([]byte, chunk)
	for end := size; end > start; {
		from := max(start, end-chunk)
		part := buf[:end-from]
		if _, err := f.ReadAt(part, from); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		for i := len(part) - 1; i >= 0; i-- {
			if part[i] == '\n' && from+int64(i) != size-1 {
				if n--; n == 0 {
					return from + int64(i) + 1, nil
				}
			}
		}
		end = from
	}
	return start, nil
}
