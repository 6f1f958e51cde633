package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Teardown takes down the lab of a data directory from any process, whether its
// supervisor runs or was killed. ErrNoLab if there is none. A supervisor that
// runs is asked first, and what it leaves is removed.
func Teardown(ctx context.Context, dataDir string, keepData bool) error {
	dataDir, err := filepath.Abs(dataDir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	s, err := Load(dataDir)
	if err != nil {
		return err
	}
	if s.Supervisor.Pid != os.Getpid() {
		if err := s.Supervisor.End(ctx, 20*time.Second); err != nil {
			return fmt.Errorf("end the supervisor: %w", err)
		}
	}
	if err := s.teardown(ctx); err != nil {
		return err
	}
	if !keepData {
		return removeData(dataDir)
	}
	return nil
}

// teardown removes all that is outside of the data directory. It goes on after
// failures and can be repeated; the lab's file goes last, when all is gone.
func (s *State) teardown(ctx context.Context) error {
	var errs []error
	var ending errgroup.Group
	cgroups := map[string]bool{}
	for _, h := range s.Hosts {
		for _, c := range containerCgroups(s, h) {
			cgroups[c] = true
		}
		// The init process takes the whole host with it.
		ending.Go(func() error { return h.Init.End(ctx, 0) })
	}
	ending.Go(func() error { return s.Plimd.End(ctx, 5*time.Second) })
	errs = append(errs, ending.Wait())
	for _, p := range marked(s.DataDir) {
		errs = append(errs, p.End(ctx, 0))
	}
	for c := range cgroups {
		errs = append(errs, removeCgroup(c))
	}
	for _, h := range s.Hosts {
		if h.NetNS == "" {
			continue
		}
		errs = append(errs, removeLink(h.Veth))
		if _, err := os.Stat("/run/netns/" + h.NetNS); err == nil {
			errs = append(errs, program(ctx, "", "ip", "netns", "del", h.NetNS))
		}
	}
	for _, bridge := range []string{s.Bridge, s.TaskBridge} {
		if bridge != "" {
			errs = append(errs, removeLink(bridge))
		}
	}
	errs = append(errs, s.removeRules(ctx))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take down the lab in %s: %w", s.DataDir, err)
	}
	if err := os.Remove(stateFile(s.DataDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the lab's file: %w", err)
	}
	return nil
}

// removeRules removes what the lab and a single host's agent filter. Forwarding
// stays on: whatever else was started since may rely on it by now.
func (s *State) removeRules(ctx context.Context) error {
	var errs []error
	for _, family := range []string{"ip", "ip6", "inet", "bridge"} {
		// Listing tells a missing table from a failure.
		if program(ctx, "", "nft", "list", "table", family, s.NftTable) == nil {
			errs = append(errs, program(ctx, "", "nft", "delete", "table", family, s.NftTable))
		}
	}
	if s.DockerUser {
		for _, side := range []string{"-i", "-o"} {
			rule := []string{"DOCKER-USER", side, s.Bridge, "-j", "ACCEPT"}
			if program(ctx, "", "iptables", append([]string{"-w", "-C"}, rule...)...) == nil {
				errs = append(errs, program(ctx, "", "iptables", append([]string{"-w", "-D"}, rule...)...))
			}
		}
	}
	return errors.Join(errs...)
}

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	} else if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}

// made are the names of what a lab makes in its data directory.
var made = []string{"client", "hosts", "join-token", "lab.json", "lab.json.new", "lab.lock", "logs", "plimd"}

// removeData removes what a lab made in the data directory, and the directory if
// nothing else is in it.
func removeData(dataDir string) error {
	for _, name := range made {
		if err := os.RemoveAll(filepath.Join(dataDir, name)); err != nil {
			return fmt.Errorf("remove the lab's data: %w", err)
		}
	}
	if err := os.Remove(dataDir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("remove the data directory: %w", err)
	}
	return nil
}

// ErrForeign is the class of errors about a data directory that holds what no
// lab made.
var ErrForeign = errors.New("the directory is in use for something else")

// foreign fails if something is in the directory that no lab made.
func foreign(dataDir string) error {
	entries, err := os.ReadDir(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	for _, e := range entries {
		if !slices.Contains(made, e.Name()) {
			return fmt.Errorf("data directory %s has %s in it: %w", dataDir, e.Name(), ErrForeign)
		}
	}
	return nil
}

// containerCgroups answers the cgroups of all containers that a host's
// containerd knew, from the bundles in its state directory. A host that loses
// its power leaves them behind, empty.
func containerCgroups(s *State, h Host) []string {
	bundles, _ := filepath.Glob(filepath.Join(hostDir(s, h), "state", "io.containerd.runtime.v2.task", "*", "*", "config.json"))
	var paths []string
	for _, b := range bundles {
		data, err := os.ReadFile(b)
		if err != nil {
			continue
		}
		var spec struct {
			Linux struct {
				CgroupsPath string `json:"cgroupsPath"`
			} `json:"linux"`
		}
		if json.Unmarshal(data, &spec) != nil {
			continue
		}
		path := spec.Linux.CgroupsPath
		if path == "" {
			path = filepath.Base(filepath.Dir(b))
		}
		// A path of systemd's form slice:prefix:name is not ours to remove.
		if clean := filepath.Clean("/" + path); clean != "/" && !strings.Contains(path, ":") {
			paths = append(paths, clean)
		}
	}
	return paths
}

// removeCgroup removes an empty cgroup from every hierarchy, and its parents as
// far as they are empty.
func removeCgroup(path string) error {
	roots := []string{"/sys/fs/cgroup"}
	if entries, err := os.ReadDir("/sys/fs/cgroup"); err == nil {
		for _, e := range entries {
			if e.IsDir() {
				roots = append(roots, filepath.Join("/sys/fs/cgroup", e.Name()))
			}
		}
	}
	var errs []error
	for _, root := range roots {
		// On a single hierarchy the other directories are cgroups themselves,
		// which hold no such path.
		for p := path; p != "/" && p != "."; p = filepath.Dir(p) {
			err := unix.Rmdir(filepath.Join(root, p))
			if err == nil || errors.Is(err, unix.ENOENT) {
				continue
			}
			if p == path {
				errs = append(errs, fmt.Errorf("remove cgroup %s: %w", filepath.Join(root, p), err))
			}
			break
		}
	}
	return errors.Join(errs...)
}
