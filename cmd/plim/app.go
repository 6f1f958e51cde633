package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/cmd/plim/client"
	"github.com/plimsoll-project/plimsoll/cmd/plim/render"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// app is one run of the command line.
type app struct {
	out, err io.Writer
	getenv   func(string) string
	now      func() time.Time
	// terminal is set if out is one: then there are colours and redrawing.
	terminal bool
	// conn is the connection once it was needed; tests set it.
	conn grpc.ClientConnInterface

	connection client.Config
	cluster    string
	output     string
	format     render.Format
	noColor    bool
}

// run does what the arguments say and answers the exit code: 0, 1 for a
// failure, 2 for wrong usage.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if c, ok := a.conn.(io.Closer); ok {
		_ = c.Close() // Nothing is left to send.
	}
	if err == nil {
		return 0
	}
	text, code := a.explain(ctx, err)
	if text != "" {
		fmt.Fprintln(a.err, text)
	}
	return code
}

func (a *app) root() *cobra.Command {
	c := group("plim", "Plimsoll: Amazon ECS that you run yourself",
		a.clusterCommand(), a.taskdefCommand(), a.runCommand(), a.serviceCommand(), a.taskCommand(),
		a.instanceCommand(), a.imageCommand(), a.tokenCommand(), a.devCommand(), a.versionCommand())
	c.Long = `Plimsoll: Amazon ECS that you run yourself.

  sudo plim dev --nodes 3 --detach     a cluster on this machine
  eval "$(plim dev env)"               have plim use it
  plim taskdef register -f web.json
  plim service create --name web --task-definition web --desired-count 3 --wait
  plim task ls

Where the control plane is and who asks comes from PLIMSOLL_ADDRESS,
PLIMSOLL_CA, PLIMSOLL_CERT and PLIMSOLL_KEY, or from the flags.`
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetFlagErrorFunc(flagError)
	c.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		f, err := render.ParseFormat(a.output)
		if err != nil {
			return usage(c, "%w", err)
		}
		a.format = f
		return nil
	}
	f := c.PersistentFlags()
	f.StringVar(&a.connection.Address, "address", "", "control plane's host:port ("+client.EnvAddress+")")
	f.StringVar(&a.connection.CA, "ca", "", "file of the cluster's authority, PEM ("+client.EnvCA+")")
	f.StringVar(&a.connection.Cert, "cert", "", "file of your certificate, PEM ("+client.EnvCert+")")
	f.StringVar(&a.connection.Key, "key", "", "file of its key, PEM ("+client.EnvKey+")")
	f.StringVar(&a.cluster, "cluster", or(a.getenv(client.EnvCluster), "default"), "cluster's name or ARN ("+client.EnvCluster+")")
	f.StringVarP(&a.output, "output", "o", string(render.Table), "table, json or yaml; json and yaml have ECS's shape")
	f.BoolVar(&a.noColor, "no-color", a.getenv("NO_COLOR") != "", "no colours on a terminal (NO_COLOR)")
	must(c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(render.Formats, cobra.ShellCompDirectiveNoFileComp)))
	must(c.RegisterFlagCompletionFunc("cluster", a.completeFlag(a.clusterNames)))
	return c
}

// must is for what cannot fail but by a mistake in this program.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// group is a command that only has others below it.
func group(name, short string, below ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: name, Short: short,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				return usage(c, "unknown command %q; did you mean %q?", args[0], near[0])
			}
			return usage(c, "unknown command %q", args[0])
		},
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
		SuggestionsMinimumDistance: 2,
	}
	c.AddCommand(below...)
	return c
}

// exactly, atLeast and between check the number of arguments; wrong numbers are
// wrong usage.
func exactly(n int, what string) cobra.PositionalArgs { return between(n, n, what) }

func atLeast(n int, what string) cobra.PositionalArgs { return between(n, 1<<20, what) }

func between(low, high int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < low:
			return usage(c, "it needs %s", what)
		case len(args) > high && high == 0:
			return usage(c, "it takes no argument, but there is %q", args[0])
		case len(args) > high:
			return usage(c, "it takes %s, but there is also %q", what, args[high])
		}
		return nil
	}
}

// dial connects once.
func (a *app) dial() (grpc.ClientConnInterface, error) {
	if a.conn == nil {
		conn, err := a.connection.Or(a.getenv).Dial()
		if err != nil {
			return nil, err
		}
		a.conn = conn
	}
	return a.conn, nil
}

func (a *app) ecs() (pb.EcsServiceClient, error) {
	conn, err := a.dial()
	if err != nil {
		return nil, err
	}
	return pb.NewEcsServiceClient(conn), nil
}

func (a *app) admin() (pb.AdminServiceClient, error) {
	conn, err := a.dial()
	if err != nil {
		return nil, err
	}
	return pb.NewAdminServiceClient(conn), nil
}

// palette has colours on a terminal only.
func (a *app) palette() render.Palette { return render.Palette{On: a.terminal && !a.noColor} }

// show writes m as asked: as a table by means of the function, or itself.
func (a *app) show(w io.Writer, m proto.Message, table func(io.Writer) error) error {
	if a.format == render.Table {
		return table(w)
	}
	return render.Message(w, a.format, m)
}

// say tells the person something besides the output.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }
