package containerd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/containers"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const (
	cgroupRoot   = "/sys/fs/cgroup"
	leftoverTick = 5 * time.Millisecond
)

// cgroupOf answers a container's cgroup path, empty when it is systemd's to
// name or unknown.
func cgroupOf(record containers.Container) string {
	var spec specs.Spec
	if record.Spec == nil || json.Unmarshal(record.Spec.GetValue(), &spec) != nil || spec.Linux == nil {
		return ""
	}
	if path := filepath.Clean(spec.Linux.CgroupsPath); filepath.IsAbs(path) && path != "/" {
		return path
	}
	return ""
}

// killLeftovers kills the processes of a container whose shim is gone, and
// removes its cgroups. It waits until they are empty or ctx ends.
func killLeftovers(ctx context.Context, cgroup string) error {
	if cgroup == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupTime)
	defer cancel()
	tick := time.NewTicker(leftoverTick)
	defer tick.Stop()
	for {
		alive := 0
		dirs, err := cgroupDirs(cgroup)
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			n, err := killWithin(dir)
			if err != nil {
				return err
			}
			alive += n
		}
		if alive == 0 {
			return removeDirs(dirs)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d processes of cgroup %s do not end: %w", alive, cgroup, ctx.Err())
		case <-tick.C:
		}
	}
}

// cgroupDirs are the directories of the cgroup and of those below it that
// exist, in every hierarchy, deepest first.
func cgroupDirs(cgroup string) ([]string, error) {
	roots, err := filepath.Glob(filepath.Join(cgroupRoot, "*"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, root := range append(roots, cgroupRoot) {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(root, cgroup), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENODEV) {
				return nil
			}
			if err == nil && d.IsDir() {
				dirs = append([]string{path}, dirs...)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("look for cgroup %s: %w", cgroup, err)
		}
		out = append(out, dirs...)
	}
	return out, nil
}

// killWithin sends SIGKILL to the processes of a cgroup, and answers how many
// there were.
func killWithin(dir string) (int, error) {
	f, err := os.Open(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		pid, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
		if err != nil || pid <= 1 || pid == os.Getpid() {
			continue
		}
		n++
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return n, fmt.Errorf("kill process %d of cgroup %s: %w", pid, dir, err)
		}
	}
	return n, nil
}

func removeDirs(dirs []string) error {
	for _, dir := range dirs {
		// Another path to the same hierarchy may have removed it.
		if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
	}
	return nil
}
