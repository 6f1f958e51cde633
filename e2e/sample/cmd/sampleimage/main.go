// Command sampleimage builds the sample application's image: `sampleimage
// -version 1 -o FILE`.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/plimsoll-project/plimsoll/e2e/sample"
)

func main() {
	version := flag.String("version", "1", "version that the application says it is")
	out := flag.String("o", "sample.tar", "file to write")
	flag.Parse()
	if err := sample.Build(context.Background(), *version, *out); err != nil {
		fmt.Fprintln(os.Stderr, "sampleimage:", err)
		os.Exit(1)
	}
}
