// Command sampleimage builds the sample image into a file: a tar archive that is
// an OCI layout, which `plim image push` takes. It owns no state and runs no
// goroutines.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/plimsoll-project/plimsoll/e2e/sample"
)

func main() {
	version := flag.String("version", "1", "what the server says it is, and the image's tag")
	out := flag.String("o", "", "file to write (required)")
	busybox := flag.String("busybox", "", "static busybox of this machine's that gives the image a shell")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := (sample.Image{Version: *version, Busybox: *busybox}).Build(ctx, *out); err != nil {
		fmt.Fprintln(os.Stderr, "sampleimage:", err)
		os.Exit(1)
	}
}
