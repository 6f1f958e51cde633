package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plimsoll-project/plimsoll/cmd/plim/client"
)

// Failure is a watched process that ended without being asked to.
type Failure struct {
	// Name is "plimd", "node-N agent" or "node-N containerd".
	Name string
	// Err has the end of its log.
	Err error
}

// WaitFailure waits for plimd, an agent or a containerd to end by itself.
func (l *Lab) WaitFailure(ctx context.Context) (Failure, error) {
	select {
	case p := <-l.failed:
		return Failure{Name: p.name, Err: p.failure()}, nil
	case <-ctx.Done():
		return Failure{}, ctx.Err()
	}
}

// ErrHostDown is the class of errors about processes of a host that is down.
var ErrHostDown = errors.New("the host is down")

// Restart starts again what WaitFailure told of, unless it runs. ErrHostDown if
// its host is down as a whole.
func (l *Lab) Restart(ctx context.Context, name string) error {
	if name == "plimd" {
		if l.State().Plimd.Alive() {
			return nil
		}
		return l.startPlimd(ctx)
	}
	var n int
	var what string
	if _, err := fmt.Sscanf(name, "node-%d %s", &n, &what); err != nil {
		return fmt.Errorf("restart %s: no such process", name)
	}
	i, err := l.index(n)
	if err != nil {
		return err
	}
	switch h := l.host(i); {
	case !h.Init.Alive():
		return fmt.Errorf("restart %s: %w", name, ErrHostDown)
	case what == "containerd" && !h.Containerd.Alive():
		return l.startContainerd(ctx, i)
	case what == "agent" && !h.Agent.Alive():
		return l.startAgent(i)
	}
	return nil
}

// Client says how to call the control plane as its administrator.
func (l *Lab) Client() client.Config { s := l.State(); return s.Client() }

// index turns a host's number, from 1, into its place.
func (l *Lab) index(n int) (int, error) {
	if n < 1 || n > len(l.state.Hosts) {
		return 0, fmt.Errorf("host %d: there are hosts 1 to %d", n, len(l.state.Hosts))
	}
	return n - 1, nil
}

// Address is host n's address, on which published ports answer.
func (l *Lab) Address(n int) (netip.Addr, error) {
	i, err := l.index(n)
	if err != nil {
		return netip.Addr{}, err
	}
	if h := l.host(i); h.Address != "" {
		return netip.ParseAddr(h.Address)
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
}

// kill kills a process at once, without that being a failure.
func (l *Lab) kill(ctx context.Context, p Proc) error {
	l.forget(p)
	return p.End(ctx, 0)
}

// KillAgent kills host n's agent with SIGKILL; its containers run on.
func (l *Lab) KillAgent(ctx context.Context, n int) error {
	i, err := l.index(n)
	if err != nil {
		return err
	}
	return l.kill(ctx, l.host(i).Agent)
}

// StartAgent starts host n's agent again. It does not wait until it is
// connected: WaitJoined does.
func (l *Lab) StartAgent(n int) error {
	i, err := l.index(n)
	if err != nil {
		return err
	}
	return l.startAgent(i)
}

// WaitJoined waits until at least that many hosts are connected.
func (l *Lab) WaitJoined(ctx context.Context, hosts int) error { return l.waitJoined(ctx, hosts) }

// KillContainerd kills host n's containerd; shims and containers run on.
func (l *Lab) KillContainerd(ctx context.Context, n int) error {
	i, err := l.index(n)
	if err != nil {
		return err
	}
	return l.kill(ctx, l.host(i).Containerd)
}

// StartContainerd starts host n's containerd again and waits until it serves.
func (l *Lab) StartContainerd(ctx context.Context, n int) error {
	i, err := l.index(n)
	if err != nil {
		return err
	}
	return l.startContainerd(ctx, i)
}

// KillPlimd kills the control plane with SIGKILL.
func (l *Lab) KillPlimd(ctx context.Context) error { return l.kill(ctx, l.State().Plimd) }

// StartPlimd starts the control plane again and waits until it serves.
func (l *Lab) StartPlimd(ctx context.Context) error { return l.startPlimd(ctx) }

// KillHost takes host n's power: every process in it is gone at once, with all
// containers, and its link is down.
func (l *Lab) KillHost(ctx context.Context, n int) error {
	i, err := l.index(n)
	if err != nil {
		return err
	}
	h := l.host(i)
	l.forget(h.Agent)
	l.forget(h.Containerd)
	s := l.State()
	return s.KillHost(ctx, n)
}

// KillHost is Lab's, for a lab of another process.
func (s *State) KillHost(ctx context.Context, n int) error {
	if n < 1 || n > len(s.Hosts) {
		return fmt.Errorf("host %d: there are hosts 1 to %d", n, len(s.Hosts))
	}
	h := s.Hosts[n-1]
	if h.Veth != "" {
		if err := setLink(h.Veth, false); err != nil {
			return err
		}
	}
	cgroups := containerCgroups(s, h)
	if err := h.Init.End(ctx, 0); err != nil {
		return err
	}
	var errs []error
	for _, c := range cgroups {
		errs = append(errs, removeCgroup(c))
	}
	return errors.Join(errs...)
}

// StartHost gives host n its power back: it boots with its disk as it was.
func (l *Lab) StartHost(ctx context.Context, n int) error {
	i, err := l.index(n)
	if err != nil {
		return err
	}
	h := l.host(i)
	if h.Init.Alive() {
		return fmt.Errorf("start %s: it is up", h.Name)
	}
	if h.Veth != "" {
		if err := setLink(h.Veth, true); err != nil {
			return err
		}
	}
	return l.boot(ctx, i)
}

// CutHost takes host n's link down and leaves it running; HealHost brings the
// link up. There must be more than one host.
func (l *Lab) CutHost(n int) error { return l.setHostLink(n, false) }

// HealHost undoes CutHost.
func (l *Lab) HealHost(n int) error { return l.setHostLink(n, true) }

func (l *Lab) setHostLink(n int, up bool) error {
	i, err := l.index(n)
	if err != nil {
		return err
	}
	h := l.host(i)
	if h.Veth == "" {
		return fmt.Errorf("link of %s: a single host uses the machine's network", h.Name)
	}
	return setLink(h.Veth, up)
}

func setLink(name string, up bool) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if up {
		err = netlink.LinkSetUp(link)
	} else {
		err = netlink.LinkSetDown(link)
	}
	if err != nil {
		return fmt.Errorf("set link %s: %w", name, err)
	}
	return nil
}

// Processes answers the ids, as the machine sees them, of every process in host
// n: agent, containerd, shims and containers.
func (l *Lab) Processes(n int) ([]int, error) {
	i, err := l.index(n)
	if err != nil {
		return nil, err
	}
	h := l.host(i)
	var own unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", h.Init.Pid), &own); err != nil {
		return nil, fmt.Errorf("list processes of %s: %w", h.Name, err)
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		if inNamespace(pid, own.Ino) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// inNamespace says whether a process or one of its ancestors is in a process
// namespace: containers have namespaces of their own below the host's.
func inNamespace(pid int, namespace uint64) bool {
	for depth := 0; pid > 1 && depth < 64; depth++ {
		var st unix.Stat_t
		if unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", pid), &st) != nil {
			return false
		}
		if st.Ino == namespace {
			return true
		}
		pid = parent(pid)
	}
	return false
}

func parent(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}

// Logs answers the end of every log of the lab, for a failed test's output.
func (l *Lab) Logs(lines int) string {
	files, _ := filepath.Glob(filepath.Join(l.config.DataDir, "logs", "*.log"))
	var all []byte
	for _, f := range files {
		if tail := Tail(f, lines); tail != "" {
			all = fmt.Appendf(all, "== %s\n%s\n", filepath.Base(f), tail)
		}
	}
	return string(all)
}
