package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/plimsoll-project/plimsoll/e2e/lab"
)

// devOptions are the flags of plim dev.
type devOptions struct {
	config   lab.Config
	detach   bool
	keepData bool
}

func (a *app) devCommand() *cobra.Command {
	o := &devOptions{}
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster on this machine",
		Long: `Run a whole cluster on this machine: a control plane, and hosts with containerd
and an agent each. With one host it uses the machine's network; with more, each
host is a network namespace of its own. It runs until Ctrl-C, which takes all of
it down; with --detach until "plim dev stop".`,
		Args: exactly(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if o.detach {
				return a.devDetach(c.Context(), o)
			}
			return a.devRun(c.Context(), o)
		},
	}
	f := c.Flags()
	f.IntVar(&o.config.Nodes, "nodes", 1, "number of hosts")
	f.BoolVar(&o.detach, "detach", false, "return once the cluster is ready and leave it running")
	f.StringVar(&o.config.AccountID, "account-id", "123456789012", "account in ARNs, 12 digits")
	f.StringVar(&o.config.Region, "region", "us-east-1", "region in ARNs")
	f.IntVar(&o.config.APIPort, "port", 7400, "port of the API; 0 takes a free one")
	f.IntVar(&o.config.RegistryPort, "registry-port", 7401, "port of the image registry; 0 takes a free one")
	f.IntVar(&o.config.MetricsPort, "metrics-port", 7402, "port of the control plane's metrics; 0 takes a free one")
	f.StringVar(&o.config.LogLevel, "log-level", "info", "of plimd and the agents: debug, info, warn or error")
	f.BoolVar(&o.keepData, "keep-data", false, "leave the data directory when it ends; the next start goes on from it")
	c.PersistentFlags().StringVar(&o.config.DataDir, "data-dir", lab.DefaultDataDir, "directory of all that the cluster keeps")
	c.AddCommand(a.devStopCommand(o), a.devEnvCommand(o), a.devStatusCommand(o), a.devHostCommand(o))
	return c
}

// programs finds the directory of plimd and plim-agent: beside this program, or
// in PATH.
func programs() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	beside := filepath.Dir(self)
	if _, err := os.Stat(filepath.Join(beside, "plimd")); err == nil {
		return beside, nil
	}
	path, err := exec.LookPath("plimd")
	if err != nil {
		return "", hint(errors.New("plimd and plim-agent are neither beside plim nor in PATH"), "build them with make build")
	}
	return filepath.Dir(path), nil
}

// devCheck fills and checks the configuration before anything is started.
func (o *devOptions) devCheck() error {
	abs, err := filepath.Abs(o.config.DataDir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	o.config.DataDir = abs
	if o.config.BinDir, err = programs(); err != nil {
		return err
	}
	if s, err := lab.Load(abs); err == nil && s.Supervisor.Alive() {
		return hint(fmt.Errorf("%s: %w", abs, lab.ErrRunning), `stop it with "sudo plim dev stop%s", or give another --data-dir and other ports`, dataDirFlag(abs))
	}
	err = lab.Check(o.config)
	switch {
	case errors.Is(err, lab.ErrPortTaken):
		return hint(err, "choose others with --port, --registry-port and --metrics-port; 0 takes a free one")
	case errors.Is(err, lab.ErrForeign):
		return hint(err, "give --data-dir an empty or a new one")
	}
	return err
}

// dataDirFlag is what a command for this data directory needs, if anything.
func dataDirFlag(dataDir string) string {
	if dataDir == lab.DefaultDataDir {
		return ""
	}
	if strings.ContainsFunc(dataDir, func(r rune) bool {
		return !strings.ContainsRune("/._-", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		dataDir = quote(dataDir)
	}
	return " --data-dir " + dataDir
}

// devRun runs the cluster until ctx ends.
func (a *app) devRun(ctx context.Context, o *devOptions) error {
	if err := o.devCheck(); err != nil {
		return err
	}
	o.config.Logger = slog.New(slog.NewTextHandler(a.err, nil))
	o.config.Progress = func(s string) { a.say("plim dev: %s", s) }
	l, err := lab.Start(ctx, o.config)
	if err != nil {
		return err
	}
	err = exportCredentials(l.State(), a.getenv)
	if err == nil {
		a.devReady(l.State(), false)
		err = a.supervise(ctx, l)
	}
	a.say("plim dev: taking the cluster down")
	// A second interrupt must not leave half of it.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if stopErr := l.Stop(ending, o.keepData); stopErr != nil {
		return errors.Join(err, stopErr)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// devReady says what to do next.
func (a *app) devReady(s lab.State, detached bool) {
	flag := dataDirFlag(s.DataDir)
	a.say("plim dev: ready: %d host(s), API 127.0.0.1:%d, data %s", len(s.Hosts), s.APIPort, s.DataDir)
	a.say("  use it:   eval \"$(plim dev env%s)\"", flag)
	if detached {
		a.say("  look:     plim dev status%s", flag)
		a.say("  stop it:  sudo plim dev stop%s", flag)
	} else {
		a.say("  stop it:  Ctrl-C")
	}
}

// devDetach starts this program again in a session of its own and waits until
// the cluster is ready.
func (a *app) devDetach(ctx context.Context, o *devOptions) error {
	if err := o.devCheck(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	c := o.config
	if err := os.MkdirAll(filepath.Join(c.DataDir, "logs"), 0o755); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	logPath := filepath.Join(c.DataDir, "logs", "supervisor.log")
	log, err := os.Create(logPath)
	if err != nil {
		return fmt.Errorf("make the supervisor's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(self, "dev", "--nodes", strconv.Itoa(c.Nodes), "--data-dir", c.DataDir, "--account-id", c.AccountID,
		"--region", c.Region, "--port", strconv.Itoa(c.APIPort), "--registry-port", strconv.Itoa(c.RegistryPort),
		"--metrics-port", strconv.Itoa(c.MetricsPort), "--log-level", c.LogLevel, fmt.Sprintf("--keep-data=%v", o.keepData))
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	a.say("plim dev: starting %d host(s)", c.Nodes)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			return fmt.Errorf("the cluster did not start (%v): %s", err, strings.TrimPrefix(lab.Tail(logPath, 1), "plim: "))
		case <-ctx.Done():
			return errors.Join(ctx.Err(), cmd.Process.Signal(syscall.SIGTERM), <-ended)
		case <-ticker.C:
			if s, err := lab.Load(c.DataDir); err == nil && s.Ready && s.Supervisor.Pid == cmd.Process.Pid {
				if _, err := os.Stat(credentialsDir(s.DataDir)); err == nil {
					a.devReady(*s, true)
					return nil
				}
			}
		}
	}
}

func credentialsDir(dataDir string) string { return filepath.Join(dataDir, "client") }

// exportCredentials copies the administrator's credentials to where the user
// who ran sudo can read them.
func exportCredentials(s lab.State, getenv func(string) string) error {
	owner, group := 0, 0
	if uid, err := strconv.Atoi(getenv("SUDO_UID")); err == nil {
		owner = uid
	}
	if gid, err := strconv.Atoi(getenv("SUDO_GID")); err == nil {
		group = gid
	}
	dir := credentialsDir(s.DataDir)
	fresh := dir + ".new"
	if err := errors.Join(os.RemoveAll(fresh), os.RemoveAll(dir), os.Mkdir(fresh, 0o755)); err != nil {
		return fmt.Errorf("hand out credentials: %w", err)
	}
	from := s.Client()
	for _, path := range []string{from.CA, from.Cert, from.Key} {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("hand out credentials: %w", err)
		}
		to := filepath.Join(fresh, filepath.Base(path))
		if err := errors.Join(os.WriteFile(to, data, 0o600), os.Chown(to, owner, group)); err != nil {
			return fmt.Errorf("hand out credentials: %w", err)
		}
	}
	if err := os.Rename(fresh, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("hand out credentials: %w", err)
	}
	return nil
}
