package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plimsoll-project/plimsoll/cmd/plim/client"
	"github.com/plimsoll-project/plimsoll/cmd/plim/render"
	"github.com/plimsoll-project/plimsoll/e2e/lab"
)

func (a *app) devStopCommand(o *devOptions) *cobra.Command {
	var keepData bool
	c := &cobra.Command{
		Use:   "stop",
		Short: "Take the cluster of this machine down; nothing is left of it",
		Args:  exactly(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return hint(errors.New("not root"), `run "sudo plim dev stop%s"`, dataDirFlag(o.config.DataDir))
			}
			s, err := lab.Load(o.config.DataDir)
			if err != nil {
				return err
			}
			if err := lab.Teardown(c.Context(), o.config.DataDir, keepData); err != nil && !errors.Is(err, lab.ErrNoLab) {
				return hint(err, "run it again; what is gone already is passed over")
			}
			if keepData {
				a.say("plim dev: stopped; its data stays in %s", s.DataDir)
			} else {
				a.say("plim dev: stopped")
			}
			if s.Forwarding {
				a.say("plim dev: net.ipv4.ip_forward was switched on and stays on")
			}
			return nil
		},
	}
	c.Flags().BoolVar(&keepData, "keep-data", false, "leave the data directory; the next start goes on from it")
	return c
}

// quote writes a word for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (a *app) devEnvCommand(o *devOptions) *cobra.Command {
	var unset bool
	c := &cobra.Command{
		Use:   "env",
		Short: `Print what has plim use this cluster: eval "$(plim dev env)"`,
		Args:  exactly(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			names := []string{client.EnvAddress, client.EnvCA, client.EnvCert, client.EnvKey, client.EnvCluster}
			if unset {
				fmt.Fprintf(a.out, "unset %s\n", strings.Join(names, " "))
				return nil
			}
			s, err := lab.Load(o.config.DataDir)
			if err != nil {
				return err
			}
			dir := credentialsDir(s.DataDir)
			for i, value := range []string{
				fmt.Sprintf("127.0.0.1:%d", s.APIPort), filepath.Join(dir, "ca.crt"), filepath.Join(dir, "admin.crt"),
				filepath.Join(dir, "admin.key"), "default",
			} {
				fmt.Fprintf(a.out, "export %s=%s\n", names[i], quote(value))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&unset, "unset", false, "print what undoes it")
	return c
}

func (a *app) devStatusCommand(o *devOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say what runs of the cluster of this machine",
		Args:  exactly(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := lab.Load(o.config.DataDir)
			if err != nil {
				return err
			}
			p := a.palette()
			ready := "starting"
			switch {
			case !s.Supervisor.Alive():
				ready = p.Bad("its supervisor is gone; plim dev stop clears up")
			case s.Ready:
				ready = "ready since " + s.StartedAt.Local().Format(time.DateTime)
			}
			if err := render.Fields(a.out, p, "cluster", ready, "API", fmt.Sprintf("127.0.0.1:%d", s.APIPort),
				"registry", fmt.Sprintf("127.0.0.1:%d", s.RegistryPort), "metrics", fmt.Sprintf("http://127.0.0.1:%d/metrics", s.MetricsPort),
				"data", s.DataDir, "logs", filepath.Join(s.DataDir, "logs")); err != nil {
				return err
			}
			alive := func(proc lab.Proc) string {
				if proc.Alive() {
					return fmt.Sprintf("%s (pid %d)", p.Status("RUNNING"), proc.Pid)
				}
				return p.Bad("down")
			}
			rows := [][]string{{"control plane", "127.0.0.1", alive(s.Plimd), "", ""}}
			for _, h := range s.Hosts {
				rows = append(rows, []string{h.Name, or(h.Address, "this machine"), alive(h.Init), alive(h.Containerd), alive(h.Agent)})
			}
			fmt.Fprintln(a.out)
			return render.Rows(a.out, p, []string{"HOST", "ADDRESS", "STATE", "CONTAINERD", "AGENT"}, rows)
		},
	}
}
