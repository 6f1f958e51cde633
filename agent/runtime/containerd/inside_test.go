package containerd_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/plimsoll-project/plimsoll/agent/runtime"
	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest"
	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest/behaviour"
)

// report runs a container and answers what it sees of itself.
func (b *bed) report(t *testing.T, change func(*runtime.Spec)) behaviour.Report {
	t.Helper()
	spec := b.Spec(t, behaviour.Behaviour{Report: true})
	change(&spec)
	b.Launch(t, spec)
	b.Await(t, spec.ID, runtime.Stopped)
	var out behaviour.Report
	runtimetest.Eventually(t, func() error {
		raw, err := os.ReadFile(spec.LogPath)
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &out)
	})
	return out
}

func TestInside(t *testing.T) {
	b := newBed(t)
	t.Run("by default", func(t *testing.T) {
		r := b.report(t, func(*runtime.Spec) {})
		if r.Args[0] != "/bin/behave" || r.Dir != "/work" || r.UID != 0 || !r.CanWrite {
			t.Errorf("%+v", r)
		}
		// Docker's fourteen capabilities, and a seccomp filter.
		if r.Capabilities != "00000000a80425fb" || r.Bounding != r.Capabilities || r.Seccomp != "2" || r.NoNewPrivs != "0" {
			t.Errorf("capabilities %s, bounding %s, seccomp %s, no new privileges %s", r.Capabilities, r.Bounding, r.Seccomp, r.NoNewPrivs)
		}
		if !slices.Contains(r.Env, "FROM=image") || !slices.Contains(r.Env, "PATH=/bin") {
			t.Errorf("environment %q", r.Env)
		}
		if !strings.Contains(r.Mounts, " /sys/fs/cgroup") {
			t.Errorf("no cgroups to read in\n%s", r.Mounts)
		}
		host, _ := os.Readlink("/proc/self/ns/net")
		if r.NetNS != host {
			t.Errorf("network namespace %s, the host's is %s", r.NetNS, host)
		}
	})
	t.Run("all set", func(t *testing.T) {
		netns := "plimsoll-rt-" + runtimetest.ID(t)[:12]
		if out, err := exec.Command("ip", "netns", "add", netns).CombinedOutput(); err != nil {
			t.Fatalf("make a network namespace: %v: %s", err, out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command("ip", "netns", "del", netns).CombinedOutput(); err != nil {
				t.Errorf("delete %s: %v: %s", netns, err, out)
			}
		})
		r := b.report(t, func(s *runtime.Spec) {
			s.NetNS, s.Hostname, s.ReadonlyRootfs = "/run/netns/"+netns, "web-1", true
			s.Process.User, s.Process.WorkingDir, s.Process.NoNewPrivileges = "web", "/tmp", true
			s.Process.Env = []string{"FROM=task", "MORE=1"}
			s.Process.AddCaps, s.Process.DropCaps = []string{"NET_ADMIN"}, []string{"ALL"}
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 512, Hard: 1024}}
			s.Process.AdditionalGroupNumber = []uint32{4000}
			s.Mounts = []specs.Mount{
				{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "size=1024k"}},
				{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=2048k"}},
			}
		})
		slices.Sort(r.Groups)
		got := behaviour.Report{
			Dir: r.Dir, Hostname: r.Hostname, UID: r.UID, GID: r.GID, Groups: r.Groups, Bounding: r.Bounding,
			Capabilities: r.Capabilities, NoNewPrivs: r.NoNewPrivs, OpenFiles: 512, CanWrite: r.CanWrite,
		}
		want := behaviour.Report{
			Dir: "/tmp", Hostname: "web-1", UID: 1000, GID: 1000, Groups: []int{2000, 4000}, Bounding: "0000000000001000",
			Capabilities: "0000000000000000", NoNewPrivs: "1", OpenFiles: 512,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for _, kv := range []string{"FROM=task", "MORE=1", "HOSTNAME=web-1"} {
			if !slices.Contains(r.Env, kv) {
				t.Errorf("%s is not in %q", kv, r.Env)
			}
		}
		for _, m := range []string{"/dev/shm tmpfs rw,nosuid,relatime,size=1024k", "/tmp tmpfs"} {
			if !strings.Contains(r.Mounts, m) {
				t.Errorf("%q is not mounted in\n%s", m, r.Mounts)
			}
		}
		host, _ := os.Readlink("/proc/self/ns/net")
		if r.NetNS == host {
			t.Error("the container is in the host's network")
		}
	})
}

// TestLogIsWrittenWithoutUs: output goes on while neither agent nor containerd
// is alive, in its order, and after the file was truncated under the shim.
func TestLogIsWrittenWithoutUs(t *testing.T) {
	b := newBed(t)
	spec := b.Spec(t, behaviour.Behaviour{Lines: 20000, After: 300 * time.Millisecond, PrintErr: "the end\n"})
	b.Launch(t, spec)
	b.Kill()
	runtimetest.AwaitLog(t, spec.LogPath, "the end\n", "line 19999\n")
	raw, err := os.ReadFile(spec.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "line ") {
			if !strings.HasPrefix(line, fmt.Sprintf("line %d\n", n)) {
				t.Fatalf("line %d is %q", n, line)
			}
			n++
		}
	}
	if n != 20000 {
		t.Errorf("%d lines", n)
	}
	b.Resume()
	b.attach(t)
	b.Await(t, spec.ID, runtime.Stopped)
}

func TestVersion(t *testing.T) {
	b := newBed(t)
	v, err := b.runtime.Version(t.Context())
	if err != nil || !strings.HasPrefix(v, "containerd ") || !strings.Contains(v, "runc ") {
		t.Errorf("%q, %v", v, err)
	}
}
