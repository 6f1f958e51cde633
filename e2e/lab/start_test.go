package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// fakes answers a directory with the test's program as plimd and plim-agent.
func fakes(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab-bin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"plimd", "plim-agent"} {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "data")
}

func TestStartFailuresRestartAndStop(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	config := Config{DataDir: dataDir(t), BinDir: fakes(t), Nodes: 2, Region: "us-east-1", AccountID: "123456789012"}
	before := outside(t, NameFor(config.DataDir), config.DataDir)
	l, err := Start(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	if s := l.State(); !s.Ready || !s.Plimd.Alive() || !s.Hosts[1].Agent.Alive() {
		t.Errorf("state after the start: %+v", s)
	}
	if _, err := Start(ctx, config); !errors.Is(err, ErrRunning) {
		t.Errorf("a second start: %v", err)
	}
	if err := l.KillAgent(ctx, 1); err != nil {
		t.Error(err)
	}
	// One that was asked for is no failure; one that was not is.
	if err := l.State().Hosts[1].Agent.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	failure, err := l.WaitFailure(ctx)
	if err != nil || failure.Name != "node-2 agent" {
		t.Errorf("failure %+v, %v", failure, err)
	}
	if err := errors.Join(l.StartAgent(1), l.Restart(ctx, failure.Name), l.WaitJoined(ctx, 2)); err != nil {
		t.Error(err)
	}
	if err := errors.Join(l.KillPlimd(ctx), l.StartPlimd(ctx)); err != nil {
		t.Error(err)
	}
	// A host that loses its power, by a process that is not the lab's.
	s, err := Load(config.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.KillHost(ctx, 2); err != nil {
		t.Error(err)
	}
	for range 2 {
		failure, err := l.WaitFailure(ctx)
		if err != nil || !strings.HasPrefix(failure.Name, "node-2 ") {
			t.Errorf("failure %+v, %v", failure, err)
		}
		if err := l.Restart(ctx, failure.Name); !errors.Is(err, ErrHostDown) {
			t.Errorf("restart of %s: %v", failure.Name, err)
		}
	}
	if err := errors.Join(l.StartHost(ctx, 2), l.WaitJoined(ctx, 2)); err != nil {
		t.Error(err)
	}
	// What runs is not started twice.
	agent := l.State().Hosts[1].Agent
	if err := l.Restart(ctx, "node-2 agent"); err != nil || l.State().Hosts[1].Agent != agent {
		t.Errorf("the agent was started twice: %v", err)
	}
	if err := l.Stop(ctx, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, outside(t, NameFor(config.DataDir), config.DataDir)); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
	if _, err := os.Stat(config.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data directory: %v", err)
	}
}

func TestWhatNoLabMadeIsLeftAlone(t *testing.T) {
	dir := dataDir(t)
	precious := filepath.Join(dir, "precious")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(precious, []byte("hi"), 0o600)); err != nil {
		t.Fatal(err)
	}
	config := Config{DataDir: dir, BinDir: fakes(t), Nodes: 1, Region: "us-east-1", AccountID: "123456789012"}
	if _, err := Start(t.Context(), config); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "precious") {
		t.Errorf("a directory with files in it: %v", err)
	}
	if err := os.Remove(precious); err != nil {
		t.Fatal(err)
	}
	l, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	// What comes later stays too.
	if err := errors.Join(os.WriteFile(precious, []byte("hi"), 0o600), l.Stop(t.Context(), false)); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "precious" {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

func TestStartSaysWhyAnAgentDoesNotStartAndCleansUp(t *testing.T) {
	config := Config{DataDir: dataDir(t), BinDir: fakes(t), Nodes: 1, Region: "us-east-1", AgentArgs: []string{"--crash"}}
	before := outside(t, NameFor(config.DataDir), config.DataDir)
	_, err := Start(t.Context(), config)
	if err == nil || !strings.Contains(err.Error(), "told to crash") || !strings.Contains(err.Error(), "node-1 agent") {
		t.Errorf("Start: %v", err)
	}
	if diff := cmp.Diff(before, outside(t, NameFor(config.DataDir), config.DataDir)); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}

func TestStartClearsUpAfterAKilledSupervisor(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	config := Config{DataDir: dataDir(t), BinDir: fakes(t), Nodes: 2, Region: "us-east-1"}
	l, err := Start(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	old := l.State()
	// What the kernel does with a killed supervisor: its lock goes, the rest
	// stays.
	if err := l.lockFile.Close(); err != nil {
		t.Fatal(err)
	}
	// Also with the ports that it still holds.
	config.APIPort, config.RegistryPort, config.MetricsPort = old.APIPort, old.RegistryPort, old.MetricsPort
	if err := Check(config); err != nil {
		t.Error(err)
	}
	again, err := Start(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	if old.Plimd.Alive() || old.Hosts[0].Init.Alive() || !again.State().Hosts[0].Init.Alive() {
		t.Error("the old lab lives, or the new one does not")
	}
	if err := again.Stop(ctx, false); err != nil {
		t.Error(err)
	}
}

func TestCheckMachineNamesWhatIsMissing(t *testing.T) {
	if _, err := CheckMachine(t.TempDir()); !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "make build") {
		t.Errorf("without programs: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := CheckMachine(t.TempDir()); !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "apt-get install containerd") {
		t.Errorf("without containerd: %v", err)
	}
}
