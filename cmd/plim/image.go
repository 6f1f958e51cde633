package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func (a *app) imageCommand() *cobra.Command {
	return group("image", "Images in the cluster's registry", a.imageLogin())
}

func (a *app) imageLogin() *cobra.Command {
	var ttl time.Duration
	var readOnly bool
	c := &cobra.Command{
		Use: "get-login-password", Short: "Print a password for the registry, for docker, skopeo and others",
		Long: `Print a password for the cluster's registry:

  plim image get-login-password | docker login --username AWS --password-stdin HOST:PORT`,
		Args: exactly(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			admin, err := a.admin()
			if err != nil {
				return err
			}
			r, err := admin.CreateRegistryPassword(c.Context(), &pb.CreateRegistryPasswordRequest{TtlSeconds: int32(ttl.Seconds()), ReadOnly: readOnly})
			if err != nil {
				return err
			}
			if a.terminal {
				a.say("user %s at %s", r.GetUsername(), r.GetEndpoint())
			}
			return a.show(a.out, r, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, r.GetPassword())
				return err
			})
		},
	}
	c.Flags().DurationVar(&ttl, "ttl", 12*time.Hour, "how long it is good")
	c.Flags().BoolVar(&readOnly, "read-only", false, "good for pulling only")
	return c
}
