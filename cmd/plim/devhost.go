package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/plimsoll-project/plimsoll/e2e/lab"
)

// supervise starts again what ends by itself, with a pause between two starts,
// until ctx ends.
//
// A host that is gone as a whole stays gone, as one without power does, until
// "plim dev host start" asks for it with SIGHUP.
func (a *app) supervise(ctx context.Context, l *lab.Lab) error {
	failures, retry := make(chan lab.Failure), make(chan string)
	go func() {
		for {
			failure, err := l.WaitFailure(ctx)
			if err != nil {
				return
			}
			select {
			case failures <- failure:
			case <-ctx.Done():
				return
			}
		}
	}()
	later := func(d time.Duration, name string) {
		time.AfterFunc(d, func() {
			select {
			case retry <- name:
			case <-ctx.Done():
			}
		})
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGHUP)
	defer signal.Stop(asked)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case f := <-failures:
			a.say("plim dev: %s ended: %v", f.Name, f.Err)
			later(restartPause, f.Name)
		case name := <-retry:
			switch err := l.Restart(ctx, name); {
			case err == nil:
				a.say("plim dev: %s is started again", name)
			case errors.Is(err, lab.ErrHostDown):
				host, _, _ := strings.Cut(name, " ")
				a.say("plim dev: %s is down: its tasks move to other hosts; \"sudo plim dev host start%s\" brings it back", host, dataDirFlag(l.State().DataDir))
			case ctx.Err() == nil:
				a.say("plim dev: %s does not start, trying again in %s: %v", name, retryPause, err)
				later(retryPause, name)
			}
		case <-asked:
			for n, h := range l.State().Hosts {
				if h.Init.Alive() {
					continue
				}
				if err := l.StartHost(ctx, n+1); err != nil {
					a.say("plim dev: %s does not start: %v", h.Name, err)
				} else {
					a.say("plim dev: %s is started again", h.Name)
				}
			}
		}
	}
}

// The pauses before what ended is started again, and before what did not start is.
const (
	restartPause = time.Second
	retryPause   = 5 * time.Second
)

// devHostCommand takes hosts' power and gives it back.
func (a *app) devHostCommand(o *devOptions) *cobra.Command {
	load := func() (*lab.State, error) {
		if os.Geteuid() != 0 {
			return nil, hint(errors.New("not root"), "run it with sudo")
		}
		return lab.Load(o.config.DataDir)
	}
	return group("host", "Take a host's power, and give it back",
		&cobra.Command{
			Use: "kill HOST", Short: "End a host at once with all that runs on it, as a power loss would", Args: exactly(1, "a host, such as node-2"),
			RunE: func(c *cobra.Command, args []string) error {
				s, err := load()
				if err != nil {
					return err
				}
				for n, h := range s.Hosts {
					if h.Name == args[0] {
						return s.KillHost(c.Context(), n+1)
					}
				}
				return hint(fmt.Errorf("there is no host %q", args[0]), `"plim dev status%s" lists them`, dataDirFlag(s.DataDir))
			},
		},
		&cobra.Command{
			Use: "start", Short: "Start the hosts that are down", Args: exactly(0, "no argument"),
			RunE: func(c *cobra.Command, _ []string) error {
				s, err := load()
				if err != nil {
					return err
				}
				if err := s.Supervisor.Signal(unix.SIGHUP); err != nil {
					return err
				}
				return a.poll(c.Context(), func() (bool, error) {
					s, err := load()
					if err != nil {
						return false, err
					}
					if !s.Supervisor.Alive() {
						return false, hint(errors.New("the supervisor is gone"), `start anew with "sudo plim dev%s"`, dataDirFlag(s.DataDir))
					}
					return !slices.ContainsFunc(s.Hosts, func(h lab.Host) bool { return !h.Agent.Alive() }), nil
				})
			},
		})
}
