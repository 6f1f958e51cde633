package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// watchFlag adds --watch to a command.
func watchFlag(c *cobra.Command, watch *bool) {
	c.Flags().BoolVarP(watch, "watch", "w", false, "show it again whenever it changes, until Ctrl-C")
}

// watched draws once, or with watch every second until ctx ends: over the last
// picture on a terminal, and else only what is new.
func (a *app) watched(ctx context.Context, watch bool, draw func(context.Context, io.Writer) error) error {
	var last []byte
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		var picture bytes.Buffer
		if err := draw(ctx, &picture); err != nil {
			if watch && ctx.Err() != nil {
				return nil
			}
			return err
		}
		if !bytes.Equal(picture.Bytes(), last) {
			if watch && a.terminal {
				fmt.Fprint(a.out, "\x1b[H\x1b[2J")
			} else if last != nil {
				fmt.Fprintln(a.out)
			}
			if _, err := a.out.Write(picture.Bytes()); err != nil {
				return err
			}
			last = picture.Bytes()
		}
		if !watch {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
