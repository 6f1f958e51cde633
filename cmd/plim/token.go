package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/plimsoll-project/plimsoll/cmd/plim/render"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// token is a client token: a request that is sent twice under it is done once.
func token() string { return rand.Text() }

func (a *app) tokenCommand() *cobra.Command {
	var ttl time.Duration
	var uses int32
	c := &cobra.Command{
		Use: "create", Short: "Make a token with which hosts join the cluster: plim-agent --join-token", Args: exactly(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			admin, err := a.admin()
			if err != nil {
				return err
			}
			r, err := admin.CreateJoinToken(c.Context(), &pb.CreateJoinTokenRequest{
				Role: "agent", Cluster: a.cluster, TtlSeconds: int32(ttl.Seconds()), Uses: uses,
			})
			if err != nil {
				return err
			}
			if a.terminal && a.format == render.Table {
				a.say("good for %d host(s) until %s; it is shown only now", uses, render.Clock(r.GetExpiresAt()))
			}
			return a.show(a.out, r, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, r.GetToken())
				return err
			})
		},
	}
	c.Flags().DurationVar(&ttl, "ttl", 15*time.Minute, "how long it is good, at most 24h")
	c.Flags().Int32Var(&uses, "uses", 1, "how many hosts may join with it")
	return group("join-token", "Tokens with which hosts join", c)
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the versions of plim and of the control plane", Args: exactly(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			fmt.Fprintln(a.out, "plim", version)
			if a.conn == nil && a.connection.Or(a.getenv).Address == "" {
				return nil
			}
			admin, err := a.admin()
			if err != nil {
				return err
			}
			r, err := admin.GetInfo(c.Context(), &pb.GetInfoRequest{})
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, "plimd", r.GetVersion())
			return render.Fields(a.out, a.palette(), "account", r.GetAccountId(), "region", r.GetRegion(), "registry", r.GetRegistryEndpoint(),
				"replica", r.GetReplica(), "leader", r.GetLeader())
		},
	}
}
