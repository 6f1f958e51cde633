package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/plimsoll-project/plimsoll/cmd/internal/images"
	"github.com/plimsoll-project/plimsoll/cmd/plim/render"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func (a *app) imageCommand() *cobra.Command {
	return group("image", "Images in the cluster's registry", a.imagePush(), a.imageList(), a.imageLogin())
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

// registry connects to the cluster's registry, where the control plane says it
// is, with the same identity.
func (a *app) registry(ctx context.Context) (*images.Registry, error) {
	admin, err := a.admin()
	if err != nil {
		return nil, err
	}
	info, err := admin.GetInfo(ctx, &pb.GetInfoRequest{})
	if err != nil {
		return nil, err
	}
	tls, err := a.connection.Or(a.getenv).TLS()
	if err != nil {
		return nil, err
	}
	return images.NewRegistry(info.GetRegistryEndpoint(), tls), nil
}

func (a *app) imagePush() *cobra.Command {
	return &cobra.Command{
		Use: "push FILE NAME:TAG", Short: "Push an image from a file into the cluster's registry",
		Long: `Push an image into the cluster's registry. FILE is an OCI image layout, as a
directory or tar archive, or what "docker save" writes. Task definitions name it
` + images.Host + `/NAME:TAG.`,
		Args: exactly(2, "a file and NAME:TAG"),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := images.ParseName(args[1]); err != nil {
				return usage(c, "%w", err)
			}
			if _, err := os.Stat(args[0]); err != nil {
				return fmt.Errorf("read the image: %w", err)
			}
			registry, err := a.registry(c.Context())
			if err != nil {
				return err
			}
			defer registry.Close()
			var progress func(done, total int64)
			if a.terminal {
				progress = func(done, total int64) { fmt.Fprintf(a.err, "\r\x1b[K%s of %s", size(done), size(total)) }
			}
			image, err := registry.Push(c.Context(), args[0], args[1], progress)
			if a.terminal {
				fmt.Fprint(a.err, "\r\x1b[K")
			}
			if errors.Is(err, images.ErrNoImage) {
				return hint(err, "give an OCI image layout (directory or tar), or what docker save writes")
			} else if err != nil {
				return err
			}
			return a.showImages([]images.Image{image}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s/%s:%s@%s\n", images.Host, image.Repository, strings.Join(image.Tags, ","), image.Digest)
				return err
			})
		},
	}
}

func (a *app) imageList() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the images of the cluster's registry", Args: exactly(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			registry, err := a.registry(c.Context())
			if err != nil {
				return err
			}
			defer registry.Close()
			all, err := registry.List(c.Context())
			if err != nil {
				return err
			}
			return a.showImages(all, func(w io.Writer) error {
				var rows [][]string
				for _, i := range all {
					rows = append(rows, []string{i.Repository, strings.Join(i.Tags, ", "), size(i.Size), i.Digest})
				}
				return render.Rows(w, a.palette(), []string{"IMAGE", "TAGS", "SIZE", "DIGEST"}, rows)
			})
		},
	}
}

// showImages writes images as asked; ECS has no message for them.
func (a *app) showImages(all []images.Image, table func(io.Writer) error) error {
	if a.format == render.Table {
		return table(a.out)
	}
	if all == nil {
		all = []images.Image{}
	}
	data, err := json.MarshalIndent(map[string]any{"images": all}, "", "    ")
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	if a.format == render.YAML {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return fmt.Errorf("write YAML: %w", err)
		}
	} else {
		data = append(data, '\n')
	}
	_, err = a.out.Write(data)
	return err
}

// size writes a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
