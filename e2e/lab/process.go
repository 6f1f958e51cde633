package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// command is a process to start.
type command struct {
	// name is for people and for the log file: "plimd", "node-1 agent".
	name string
	path string
	args []string
	log  string
	env  []string
	// enter prepares the thread that starts it; may be nil.
	enter func() error
	// clone are the namespaces to make for it.
	clone uintptr
	// ready has the process report on file descriptor 3 before start returns.
	ready bool
}

// process is one that this lab started.
type process struct {
	command
	Proc
	done chan struct{} // closed once it was waited for
	err  error         // how it ended, once done is closed
}

// start starts a process in a session of its own, so that an interrupt at the
// terminal does not reach it. Its output is appended to its log.
func (l *Lab) start(c command) (*process, error) {
	if err := os.MkdirAll(filepath.Dir(c.log), 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	defer log.Close()
	cmd := exec.Command(c.path, c.args...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(append(os.Environ(), marker+"="+l.state.DataDir,
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: c.clone}
	var ready, reports *os.File
	if c.ready {
		if ready, reports, err = os.Pipe(); err != nil {
			return nil, fmt.Errorf("start %s: %w", c.name, err)
		}
		defer ready.Close()
		cmd.ExtraFiles = []*os.File{reports}
	}
	err = onThread(func() error {
		if c.enter != nil {
			if err := c.enter(); err != nil {
				return err
			}
		}
		return cmd.Start()
	})
	if reports != nil {
		reports.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	p := &process{command: c, done: make(chan struct{})}
	if p.Proc, err = procOf(cmd.Process.Pid); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", c.name, err), cmd.Process.Kill(), cmd.Wait())
	}
	l.waiting.Go(func() {
		p.err = cmd.Wait()
		close(p.done)
		l.ended(p)
	})
	if ready != nil {
		if said, _ := io.ReadAll(ready); string(said) != "ready\n" {
			<-p.done
			return nil, fmt.Errorf("start %s: %w", c.name, p.failure())
		}
	}
	return p, nil
}

// failure says how the process ended, with the end of its log.
func (p *process) failure() error {
	tail := Tail(p.log, 5)
	how := "it ended"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s; the end of %s:\n%s", how, p.log, tail)
}
