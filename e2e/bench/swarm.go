package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// swarm is a dockerd of its own with a one-node swarm.
type swarm struct {
	dir    string
	daemon *exec.Cmd
	exited chan error
}

func newSwarm(ctx context.Context, dir string, archives ...string) (*swarm, error) {
	s := &swarm{dir: dir, exited: make(chan error, 1)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "dockerd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.daemon = exec.Command("dockerd", "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "-H", "unix://"+s.socket(), "--bridge", "none")
	s.daemon.Stdout, s.daemon.Stderr = log, log
	s.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.daemon.Start(); err != nil {
		return nil, fmt.Errorf("start dockerd: %w", err)
	}
	go func() { s.exited <- s.daemon.Wait() }()
	ready, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := wait(ready, 100*time.Millisecond, func() (bool, error) {
		_, err := s.docker(ready, "version")
		return err == nil, nil
	}); err != nil {
		return s, fmt.Errorf("dockerd does not answer; its log is %s: %w", log.Name(), err)
	}
	if _, err := s.docker(ctx, "swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:23777"); err != nil {
		return s, err
	}
	for i, archive := range archives {
		out, err := s.docker(ctx, "load", "-i", archive)
		if err != nil {
			return s, err
		}
		name := strings.TrimSpace(out[strings.LastIndex(out, ": ")+2:])
		if _, err := s.docker(ctx, "tag", name, fmt.Sprintf("bench:%d", i+1)); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *swarm) socket() string { return filepath.Join(s.dir, "docker.sock") }

func (s *swarm) docker(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"-H", "unix://" + s.socket()}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

func (s *swarm) create(ctx context.Context, name string, count int, order string, parallelism int) (time.Duration, error) {
	begin := time.Now()
	if _, err := s.docker(ctx, "service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", name,
		"--replicas", strconv.Itoa(count), "--restart-delay", "0s", "--update-order", order, "--update-monitor", "1s",
		"--update-parallelism", strconv.Itoa(parallelism), "--update-delay", "0s", "bench:1"); err != nil {
		return 0, err
	}
	err := s.running(ctx, name, count, "")
	return time.Since(begin), err
}

// running waits until count tasks of the image run and no others are to.
func (s *swarm) running(ctx context.Context, name string, count int, image string) error {
	return wait(ctx, 20*time.Millisecond, func() (bool, error) {
		out, err := s.docker(ctx, "service", "ps", name, "--filter", "desired-state=running", "--format", "{{.Image}} {{.CurrentState}}")
		if err != nil {
			return false, err
		}
		n := 0
		for line := range strings.Lines(out) {
			if !strings.HasPrefix(line, image) || !strings.Contains(line, "Running") {
				return false, nil
			}
			n++
		}
		return n == count, nil
	})
}

func (s *swarm) roll(ctx context.Context, name string, count int) (time.Duration, error) {
	begin := time.Now()
	if _, err := s.docker(ctx, "service", "update", "--detach", "--quiet", "--no-resolve-image", "--image", "bench:2", name); err != nil {
		return 0, err
	}
	err := wait(ctx, 20*time.Millisecond, func() (bool, error) {
		out, err := s.docker(ctx, "service", "inspect", name, "--format", "{{.UpdateStatus.State}}")
		return strings.TrimSpace(out) == "completed", err
	})
	if err == nil {
		err = s.running(ctx, name, count, "bench:2")
	}
	return time.Since(begin), err
}

func (s *swarm) replace(ctx context.Context, name string, count int) (time.Duration, error) {
	out, err := s.docker(ctx, "ps", "-q", "--filter", "name="+name)
	if err != nil || out == "" {
		return 0, fmt.Errorf("docker ps: %w", err)
	}
	pid, err := s.docker(ctx, "inspect", "-f", "{{.State.Pid}} {{.Id}}", strings.Fields(out)[0])
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(pid)
	n, err := strconv.Atoi(fields[0])
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := kill(n); err != nil {
		return 0, err
	}
	err = wait(ctx, 5*time.Millisecond, func() (bool, error) {
		out, err := s.docker(ctx, "ps", "-q", "--no-trunc", "--filter", "name="+name)
		return err == nil && !strings.Contains(out, fields[1]) && len(strings.Fields(out)) == count, err
	})
	return time.Since(begin), err
}

func (s *swarm) remove(ctx context.Context, name string) error {
	if _, err := s.docker(ctx, "service", "rm", name); err != nil {
		return err
	}
	return wait(ctx, 100*time.Millisecond, func() (bool, error) {
		out, err := s.docker(ctx, "ps", "-aq")
		return out == "", err
	})
}

// stop ends the swarm and dockerd.
func (s *swarm) stop(ctx context.Context) error {
	_, err := s.docker(ctx, "swarm", "leave", "--force")
	if e := s.daemon.Process.Signal(syscall.SIGTERM); e != nil {
		return e
	}
	select {
	case <-s.exited:
		return err
	case <-time.After(30 * time.Second):
		return s.daemon.Process.Kill()
	}
}

func kill(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }
