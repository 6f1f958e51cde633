package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseStatReadsNamesWithParentheses(t *testing.T) {
	fields := strings.Repeat("7 ", 18)
	for _, tc := range []struct {
		in    string
		ticks uint64
		state byte
		ok    bool
	}{
		{"12 (sh) S " + fields + "4711 0 0", 4711, 'S', true},
		{"12 (a) b) (c) Z " + fields + "4711 0", 4711, 'Z', true},
		{"12 sh", 0, 0, false},
		{"12 (sh) S 1 2", 0, 0, false},
		{"", 0, 0, false},
	} {
		ticks, state, err := parseStat(tc.in)
		if ok := err == nil; ok != tc.ok || ok && (ticks != tc.ticks || state != tc.state) {
			t.Errorf("parseStat(%q) = %d, %c, %v", tc.in, ticks, state, err)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("12 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711")
	f.Fuzz(func(t *testing.T, s string) { _, _, _ = parseStat(s) })
}

func TestSignalSparesAnotherProcessWithTheSameID(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	p, err := procOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	stranger := p
	stranger.StartTicks++
	if err := stranger.End(t.Context(), 0); err != nil || stranger.Alive() || !p.Alive() {
		t.Errorf("ending a process that is gone: %v; the one with its id is alive: %v", err, p.Alive())
	}
	if err := p.End(t.Context(), time.Second); err != nil || p.Alive() {
		t.Errorf("End: %v, alive %v", err, p.Alive())
	}
}

func TestFirstFreeAvoidsWhatIsRouted(t *testing.T) {
	all := []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24"), netip.MustParsePrefix("10.77.1.0/24"), netip.MustParsePrefix("10.77.2.0/24")}
	for _, tc := range []struct {
		taken []netip.Prefix
		want  string
	}{
		{nil, "10.77.0.0/24"},
		{[]netip.Prefix{netip.MustParsePrefix("10.77.0.0/23")}, "10.77.2.0/24"},
		{[]netip.Prefix{netip.MustParsePrefix("10.77.0.9/32"), netip.MustParsePrefix("10.77.2.0/24")}, "10.77.1.0/24"},
		{[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, ""},
	} {
		got, err := firstFree(all, tc.taken)
		if tc.want == "" && err == nil || tc.want != "" && (err != nil || got.String() != tc.want) {
			t.Errorf("firstFree past %v = %v, %v, want %q", tc.taken, got, err, tc.want)
		}
	}
}

func TestUpstreamResolvOnlyForALoopbackResolver(t *testing.T) {
	dir := t.TempDir()
	upstream := filepath.Join(dir, "upstream")
	if err := os.WriteFile(upstream, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"nameserver 127.0.0.53\n":                          upstream,
		"# x\nnameserver 192.0.2.1\n":                      "",
		"nameserver 127.0.0.53\nnameserver 192.0.2.1\n":    "",
		"nameserver 127.0.0.53\noptions edns0 trust-ad\n#": upstream,
	} {
		used := filepath.Join(dir, "used")
		if err := os.WriteFile(used, []byte(in), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := upstreamResolv(used, upstream); got != want {
			t.Errorf("upstreamResolv(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestConfigRefusesWhatCannotBe(t *testing.T) {
	listener, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for name, tc := range map[string]struct {
		config Config
		want   string
	}{
		"no nodes":   {Config{DataDir: "/x"}, "1 to 200"},
		"long path":  {Config{DataDir: "/" + strings.Repeat("x", 60), Nodes: 1}, "longer than 60"},
		"long name":  {Config{DataDir: "/x", Nodes: 1, Name: "abcdefghij"}, "longer than 9"},
		"taken port": {Config{DataDir: "/x", Nodes: 1, RegistryPort: port(listener)}, "registry port"},
	} {
		c, err := tc.config.complete()
		if err == nil {
			err = c.ports()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	done, err := Config{DataDir: "/x", Nodes: 2}.complete()
	if err := errors.Join(err, done.ports()); err != nil || done.APIPort == 0 || done.APIPort == done.RegistryPort || len(done.Name) > 9 {
		t.Errorf("complete: %+v, %v", done, err)
	}
}

// outside is what a lab must leave as it was.
func outside(t *testing.T, name, dataDir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	run := func(key, program string, args ...string) {
		out, err := exec.Command(program, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v: %s", program, args, err, out)
		}
		for line := range strings.SplitSeq(string(out), "\n") {
			if strings.Contains(line, name) || strings.Contains(line, dataDir) {
				found[key] += line + "\n"
			}
		}
	}
	run("links", "ip", "-br", "link")
	run("namespaces", "ip", "netns")
	run("tables", "nft", "list", "tables")
	run("mounts", "cat", "/proc/mounts")
	run("processes", "ps", "-eww", "-o", "args")
	return found
}

func testLab(t *testing.T, nodes int) *Lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config, err := Config{DataDir: dir, BinDir: dir, Nodes: nodes, Region: "us-east-1"}.complete()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"plimd", "plim-agent"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	containerd, err := CheckMachine(dir)
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{config: config, containerd: containerd, failed: make(chan *process, 10)}
	if l.lockFile, err = lock(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := l.Stop(ctx, false); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return l
}

// hostsUp starts the hosts of a lab, with no control plane.
func hostsUp(t *testing.T, l *Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	subnet, err := l.plan(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if subnet.IsValid() {
		if err := l.makeBridge(ctx, subnet); err != nil {
			t.Fatal(err)
		}
	}
	for i, h := range l.state.Hosts {
		if h.NetNS != "" {
			if err := l.makeNetwork(ctx, h); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(l.startInit(i), l.startContainerd(ctx, i)); err != nil {
			t.Fatalf("%v\n%s", err, l.Logs(20))
		}
	}
}

// runContainer starts a container on a host, the way ctr does.
func runContainer(t *testing.T, l *Lab, i int) {
	t.Helper()
	h := l.host(i)
	rootfs := filepath.Join(l.config.DataDir, "rootfs")
	build := exec.Command("go", "build", "-o", filepath.Join(rootfs, "pause"), "./testdata/pause")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the container's program: %v: %s", err, out)
	}
	// ctr itself runs on the host, as the agent would.
	p, err := l.start(command{
		name: h.Name + " ctr", path: "/usr/bin/ctr", log: l.log(h.Name + " ctr"),
		args: []string{"-a", containerdSocket(l.state, h), "run", "-d", "--null-io", "--rootfs",
			rootfs, l.state.Name + h.Name, "/pause"},
		enter: func() error { return enterHost(h.Init) },
	})
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	if p.err != nil {
		t.Fatal(p.failure())
	}
}

func TestHostsComeUpReachEachOtherAndLeaveNothing(t *testing.T) {
	for _, nodes := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d", nodes), func(t *testing.T) {
			l := testLab(t, nodes)
			before := outside(t, l.config.Name, l.config.DataDir)
			hostsUp(t, l)
			for i := range nodes {
				runContainer(t, l, i)
				if pids, err := l.Processes(i + 1); err != nil || len(pids) < 5 {
					t.Errorf("processes of host %d: %v, %v", i+1, pids, err)
				}
			}
			cgroups := containerCgroups(l.state, l.state.Hosts[0])
			if len(cgroups) != 1 {
				t.Errorf("cgroups of host 1: %v", cgroups)
			}
			if nodes == 2 {
				var name unix.Utsname
				if err := onThread(func() error {
					if err := enterHost(l.host(1).Init); err != nil {
						return err
					}
					return unix.Uname(&name)
				}); err != nil || unix.ByteSliceToString(name.Nodename[:]) != "node-2" {
					t.Errorf("host name of host 2: %q, %v", unix.ByteSliceToString(name.Nodename[:]), err)
				}
				if out, err := exec.Command("ip", "netns", "exec", l.host(0).NetNS, "ip", "route", "get", l.host(1).Address).CombinedOutput(); err != nil {
					t.Errorf("route from host 1 to host 2: %v: %s", err, out)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			// As another process would that finds only the file.
			if err := Teardown(ctx, l.config.DataDir, true); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, outside(t, l.config.Name, l.config.DataDir)); diff != "" {
				t.Errorf("left behind (-before +after):\n%s", diff)
			}
			for _, c := range cgroups {
				if _, err := os.Stat("/sys/fs/cgroup/pids" + c); err == nil {
					t.Errorf("cgroup %s is left", c)
				}
			}
			if _, err := Load(l.config.DataDir); !errors.Is(err, ErrNoLab) {
				t.Errorf("the lab's file after the teardown: %v", err)
			}
		})
	}
}

func TestPowerLossKillsContainersAndTheHostBootsAgain(t *testing.T) {
	l := testLab(t, 2)
	hostsUp(t, l)
	runContainer(t, l, 0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pids, err := l.Processes(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.KillHost(ctx, 1); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if p, err := procOf(pid); err == nil && p.Alive() && p.StartTicks >= l.host(0).Init.StartTicks {
			t.Errorf("process %d survived the power loss", pid)
		}
	}
	if err := l.StartHost(ctx, 2); err == nil {
		t.Error("a host that is up was started")
	}
	if err := errors.Join(l.startInit(0), l.startContainerd(ctx, 0)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.CutHost(2), l.HealHost(2)); err != nil {
		t.Error(err)
	}
	if err := l.KillContainerd(ctx, 2); err != nil || l.host(1).Containerd.Alive() {
		t.Errorf("KillContainerd: %v", err)
	}
	if err := l.StartContainerd(ctx, 2); err != nil {
		t.Error(err)
	}
}

func TestASecondSupervisorIsRefused(t *testing.T) {
	l := testLab(t, 1)
	if _, err := lock(l.config.DataDir); !errors.Is(err, ErrRunning) {
		t.Errorf("lock of a locked directory: %v", err)
	}
	if err := Teardown(t.Context(), t.TempDir(), false); !errors.Is(err, ErrNoLab) {
		t.Errorf("teardown of nothing: %v", err)
	}
}
