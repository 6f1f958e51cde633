// Package daemon is what Plimsoll's long-running programs have in common on
// their command line: how they log, tell their version, and end.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Command makes a program's command, which takes flags alone; run is called with
// a context that ends on SIGINT and SIGTERM, and with the logger that the flags
// --log-level and --log-format ask for.
func Command(name, short, version string, run func(context.Context, *slog.Logger) error) *cobra.Command {
	var level, format string
	c := &cobra.Command{
		Use: name, Short: short, Version: version, Args: cobra.NoArgs,
		// Errors are printed once, by Main.
		SilenceErrors: true, SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error {
			logger, err := newLogger(level, format)
			if err != nil {
				return err
			}
			return run(c.Context(), logger)
		},
	}
	c.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	c.Flags().StringVar(&format, "log-format", "text", "text or json")
	c.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: see \"%s --help\"", err, name) })
	return c
}

// Main runs the command, prints its error and exits with 1 if there is one.
func Main(c *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := c.ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", c.Name(), err)
		os.Exit(1)
	}
}

func newLogger(level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level is %q: it must be debug, info, warn or error", level)
	}
	switch options := (&slog.HandlerOptions{Level: l}); format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, options)), nil
	}
	return nil, fmt.Errorf("--log-format is %q: it must be text or json", format)
}
